"""Learning-curve figures of run folders."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muzero_jax.core.file_names import EVALUATION_FILE, METRICS_FILE
from muzero_jax.core.files import replacing
from muzero_jax.reports.curves import Curve, return_curve, score_curve
from muzero_jax.reports.extras import import_extra
from muzero_jax.reports.runs import (
    RunFolderError,
    RunGroup,
    RunRecord,
    group_runs,
    has_values,
    read_run,
)

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which the common kinds of colour blindness can tell apart."""
LINE_STYLES = tuple({"color": c, "linestyle": s} for s in ("-", "--", ":", "-.") for c in COLOURS)
"""matplotlib's arguments for lines that can be told apart."""
INK, MUTED, GRID = "#222222", "#666666", "#E6E6E6"
_STEPS = "Environment steps"
_MAX_LOSSES = 6


def plot_runs(run_dirs: Sequence[Path], out: Path) -> None:
    """Draws the learning curves of runs to a PNG.

    Greedy evaluation scores are drawn against environment steps and against training time, with the
    returns of the training episodes as a faint line. Runs that differ in their seeds only become
    one curve: their interquartile mean with a 95 % bootstrap interval. A single run shows the
    spread of its episodes instead, and its losses below.

    Args:
      run_dirs: run folders; a folder may lack some of its files.
      out: the PNG to write; its folder is made where it is missing.

    Raises:
      RunFolderError: a folder does not exist, or no folder holds anything that could be drawn.
      MissingExtraError: matplotlib is not installed.
    """
    runs = [read_run(Path(run_dir)) for run_dir in run_dirs]
    shown = [
        run
        for run in runs
        if has_values(run.evaluation, "score_mean") or has_values(run.metrics, "episode/return")
    ]
    groups = group_runs(shown)
    if not groups:
        folders = ", ".join(str(run.path) for run in runs) or "no folder"
        files = f"{EVALUATION_FILE} or {METRICS_FILE}"
        raise RunFolderError(f"There is nothing to plot yet: no {files} with scores in {folders}.")
    save_figure(_make_figure(groups), out)


def new_figure(size: tuple[float, float]) -> Any:
    """Makes an empty white figure of a width and height in inches, which lays out its panels.

    The figure uses neither pyplot nor any other global state of matplotlib.

    Raises:
      MissingExtraError: matplotlib is not installed.
    """
    figure_module = import_extra("matplotlib.figure", purpose="Plots", package="matplotlib")
    return figure_module.Figure(figsize=size, layout="constrained", facecolor="white")


def save_figure(figure: Any, out: Path, dpi: int = 150, kind: str = "png") -> None:
    """Writes a figure to a file, whose folder is made where it is missing.

    Args:
      figure: the matplotlib figure.
      out: the file to write.
      dpi: pixels per inch.
      kind: `png` or `svg`.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi)


def add_legend(figure: Any, handles: Sequence[Any], num_columns: int) -> None:
    """Puts a legend below the panels of a figure.

    Args:
      figure: the matplotlib figure.
      handles: the lines to name, each with its label.
      num_columns: number of names side by side.
    """
    style: dict[str, Any] = {"frameon": False, "fontsize": 9, "ncols": num_columns}
    figure.legend(handles=list(handles), loc="outside lower center", **style)


def _make_figure(groups: Sequence[RunGroup]) -> Any:
    single = groups[0].runs[0] if len(groups) == 1 and len(groups[0].runs) == 1 else None
    losses = _loss_names(single) if single else []
    figure = new_figure((11, 4.8 + 2.1 * bool(losses)))
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    _add_title(figure, groups)
    parts = figure.subfigures(2, 1, height_ratios=[2.1, 1]) if losses else [figure]
    handles = _draw_scores(parts[0], groups)
    if len(groups) > 1:
        add_legend(figure, handles, num_columns=min(len(groups), 3))
    if single and losses:
        _draw_losses(parts[1].subplots(1, len(losses), squeeze=False)[0], single, losses)
    return figure


def _add_title(figure: Any, groups: Sequence[RunGroup]) -> None:
    """Writes what is drawn, and below the panels how to read the lines."""
    runs = [run for group in groups for run in group.runs]
    names = list(dict.fromkeys(run.experiment for run in runs))
    title = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    if len(runs) == 1 and runs[0].seed is not None:
        title += f", seed {runs[0].seed}"
    if len(groups) == 1 and len(runs) > 1:
        title += f", {len(runs)} seeds"
    repeated = any(len(group.runs) > 1 for group in groups)
    band = "IQM over seeds with 95 % interval" if repeated else "mean ± one std over episodes"
    note = f"dark: greedy evaluation score, {band}   ·   pale: return of training episodes"
    figure.suptitle(title, fontsize=13, fontweight="bold", color=INK)
    figure.supxlabel(note, fontsize=9, color=MUTED)


def _draw_scores(figure: Any, groups: Sequence[RunGroup]) -> list[Any]:
    """Draws every group against steps and, where known, time; returns the lines of the groups."""
    curves = [(score_curve(group.runs), return_curve(group.runs)) for group in groups]
    panels: dict[str, Callable[[Curve], np.ndarray]] = {_STEPS: lambda curve: curve.env_steps}
    if any(np.isfinite(curve.seconds).any() for pair in curves for curve in pair if curve):
        panels["Training time (minutes)"] = lambda curve: curve.seconds / 60
    axes = np.ravel(figure.subplots(1, len(panels), sharey=True))
    lines: list[Any] = []
    for axis, (x_label, x_of) in zip(axes, panels.items(), strict=True):
        styles = itertools.cycle(LINE_STYLES)
        lines = [_draw_group(axis, x_of, *pair, next(styles)) for pair in curves]
        style_axis(axis, x_label, engineering=x_label == _STEPS)
        axis.tick_params(labelleft=True)
    axes[0].set_ylabel("Return of an episode", color=INK)
    for line, group in zip(lines, groups, strict=True):
        repetitions = f", {len(group.runs)} seeds" if len(group.runs) > 1 else ""
        line.set_label(f"{group.label}{repetitions}")
    return lines


def _draw_group(
    axis: Any,
    x_of: Callable[[Curve], np.ndarray],
    scores: Curve | None,
    returns: Curve | None,
    style: dict[str, str],
) -> Any:
    """Draws the scores and the training returns of a group; returns its line for the legend."""
    line: Any = None
    if returns is not None:
        (line,) = axis.plot(x_of(returns), returns.value, linewidth=1, alpha=0.4, **style)
    if scores is not None:
        x = x_of(scores)
        axis.fill_between(x, scores.low, scores.high, color=style["color"], alpha=0.18, linewidth=0)
        # A short curve keeps its dots: between them nothing was measured.
        marker = "o" if scores.value.size <= 40 else None
        (line,) = axis.plot(x, scores.value, linewidth=2, marker=marker, markersize=4, **style)
    return line


def _loss_names(run: RunRecord) -> list[str]:
    names = [name for name in run.metrics if name.startswith("loss/")]
    return sorted(name for name in names if has_values(run.metrics, name))[:_MAX_LOSSES]


def _draw_losses(axes: Sequence[Any], run: RunRecord, names: Sequence[str]) -> None:
    for axis, name in zip(axes, names, strict=True):
        known = np.isfinite(run.metrics[name])
        steps, values = run.metrics["env_steps"][known], run.metrics[name][known]
        axis.plot(steps, values, linewidth=1.2, color=COLOURS[0])
        low, high = values.min(), values.max()
        if low > 0.0 and high / low > 50.0:
            axis.set_yscale("log")
        style_axis(axis, _STEPS, engineering=True, size=8)
        axis.set_title(f"{name.partition('/')[2]} loss", fontsize=9, color=INK)


def style_axis(axis: Any, x_label: str, *, engineering: bool = False, size: float = 9.5) -> None:
    """Gives a panel the house style: no box, and a light grid.

    Args:
      axis: the panel, matplotlib's axes.
      x_label: text below the panel.
      engineering: whether numbers below the panel are written as 20k or 1M.
      size: size of the text in points.
    """
    axis.set_xlabel(x_label, color=INK, fontsize=size)
    axis.tick_params(colors=MUTED, labelsize=size, which="both")
    axis.grid(True, color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[:].set_color(MUTED)
    axis.spines[["top", "right"]].set_visible(False)
    if engineering:
        ticker = import_extra("matplotlib.ticker", purpose="Plots", package="matplotlib")
        axis.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
        axis.xaxis.set_major_locator(ticker.MaxNLocator(4 if size < 9 else 6))
