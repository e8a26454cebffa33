"""Learning-curve figures of run folders."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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

# Okabe and Ito's palette, which stays apart for the common kinds of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINE_STYLES = ("-", "--", ":", "-.")
INK, MUTED, GRID = "#222222", "#666666", "#E6E6E6"
_MAX_LOSSES = 6


def plot_runs(run_dirs: Sequence[Path], out: Path) -> None:
    """Draws the learning curves of runs to a PNG.

    Greedy evaluation scores are drawn against environment steps and against training time, with the
    returns of the training episodes as a faint line. Runs that differ in their seeds only become
    one curve: their interquartile mean with a 95 % bootstrap interval. A single run shows the
    spread of its episodes instead, and its losses below.

    Args:
      run_dirs: run folders, see `analysis.runs`; files that are missing are done without.
      out: the PNG to write; its folder is made.

    Raises:
      RunFolderError: there is no such folder, or nothing in any of them that could be drawn.
      MissingExtraError: matplotlib is not installed.
    """
    runs = [read_run(Path(run_dir)) for run_dir in run_dirs]
    groups = group_runs([run for run in runs if _has_curve(run)])
    if not groups:
        looked_in = ", ".join(str(run.path) for run in runs) or "no folder"
        raise RunFolderError(
            f"There is nothing to plot yet: no evaluation.csv or metrics.jsonl with scores in "
            f"{looked_in}."
        )
    figure = _make_figure(groups)
    save_png(figure, out)


def new_figure(size: tuple[float, float]) -> Any:
    """An empty white figure of so many inches, which lays its panels out by itself.

    Neither pyplot nor any other global state of matplotlib is touched.

    Raises:
      MissingExtraError: matplotlib is not installed.
    """
    figure_module = import_extra("matplotlib.figure", purpose="Plots", package="matplotlib")
    return figure_module.Figure(figsize=size, layout="constrained", facecolor="white")


def save_png(figure: Any, out: Path, dpi: int = 150) -> None:
    """Writes a figure to a PNG file, whose folder is made where it is missing.

    Args:
      figure: matplotlib's figure.
      out: the file.
      dpi: pixels per inch.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)


def _has_curve(run: RunRecord) -> bool:
    return has_values(run.evaluation, "score_mean") or has_values(run.metrics, "episode/return")


def _make_figure(groups: Sequence[RunGroup]) -> Any:
    """Lays out the panels."""
    single = groups[0].runs[0] if len(groups) == 1 and len(groups[0].runs) == 1 else None
    losses = _loss_names(single) if single else []
    figure = new_figure((11, 4.8 + 2.1 * bool(losses)))
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    _add_title(figure, groups)
    parts = figure.subfigures(2, 1, height_ratios=[2.1, 1]) if losses else [figure]
    handles = _draw_scores(parts[0], groups)
    if len(groups) > 1:
        columns = min(len(groups), 3)
        figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=9
        )
    if single and losses:
        _draw_losses(parts[1].subplots(1, len(losses), squeeze=False)[0], single, losses)
    return figure


def _add_title(figure: Any, groups: Sequence[RunGroup]) -> None:
    """Says what is drawn, and on a second line how to read it."""
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
    # A blank line of the title's own size keeps the note's place in the layout.
    figure.suptitle(f"{title}\n", fontsize=13, fontweight="bold", color=INK)
    inches = figure.get_figheight()
    figure.text(0.5, 1 - 0.42 / inches, note, ha="center", va="center", fontsize=9, color=MUTED)


def _draw_scores(figure: Any, groups: Sequence[RunGroup]) -> list[Any]:
    """Draws every group against steps and, where it is known, time; returns the groups' lines."""
    curves = [(score_curve(group), return_curve(group)) for group in groups]
    times = np.concatenate([c.seconds for pair in curves for c in pair if c is not None])
    unit, seconds_per_unit = _time_unit(times)
    panels: list[tuple[str, Callable[[Curve], np.ndarray]]] = [
        ("Environment steps", lambda curve: curve.env_steps)
    ]
    if np.isfinite(times).any():
        panels.append((f"Training time ({unit})", lambda curve: curve.seconds / seconds_per_unit))
    axes = np.ravel(figure.subplots(1, len(panels), sharey=True))
    lines: list[Any] = []
    for axis, (x_label, x_of) in zip(axes, panels, strict=True):
        lines = [
            _draw_group(axis, x_of, pair, group, _group_style(index))
            for index, (group, pair) in enumerate(zip(groups, curves, strict=True))
        ]
        style_axis(axis, x_label, engineering=x_label == "Environment steps")
        axis.tick_params(labelleft=True)
    axes[0].set_ylabel("Return of an episode", color=INK)
    return lines


def _group_style(index: int) -> dict[str, str]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": _LINE_STYLES[index // len(COLOURS) % len(_LINE_STYLES)],
    }


def _draw_group(
    axis: Any,
    x_of: Callable[[Curve], np.ndarray],
    curves: tuple[Curve | None, Curve | None],
    group: RunGroup,
    style: dict[str, str],
) -> Any:
    """Draws scores and training returns, whichever there are; returns the line for the legend."""
    scores, returns = curves
    line: Any = None
    if returns is not None:
        (line,) = axis.plot(x_of(returns), returns.value, linewidth=1, alpha=0.4, **style)
    if scores is not None:
        x = x_of(scores)
        axis.fill_between(x, scores.low, scores.high, color=style["color"], alpha=0.18, linewidth=0)
        # A short curve keeps its dots: between them nothing was measured.
        marker = "o" if scores.value.size <= 40 else None
        (line,) = axis.plot(x, scores.value, linewidth=2, marker=marker, markersize=4, **style)
    repetitions = f", {len(group.runs)} seeds" if len(group.runs) > 1 else ""
    line.set_label(f"{group.label}{repetitions}")
    return line


def _loss_names(run: RunRecord) -> list[str]:
    names = [name for name in run.metrics if name.startswith("loss/")]
    return sorted(name for name in names if has_values(run.metrics, name))[:_MAX_LOSSES]


def _draw_losses(axes: Sequence[Any], run: RunRecord, names: Sequence[str]) -> None:
    for axis, name in zip(axes, names, strict=True):
        values = run.metrics[name]
        known = np.isfinite(values)
        axis.plot(run.metrics["env_steps"][known], values[known], linewidth=1.2, color=COLOURS[0])
        if _spans_decades(values[known]):
            axis.set_yscale("log")
        style_axis(axis, "Environment steps", engineering=True, small=True)
        axis.set_title(f"{name.partition('/')[2]} loss", fontsize=9, color=INK)


def _spans_decades(values: np.ndarray) -> bool:
    return bool(values.min() > 0.0 and values.max() / values.min() > 50.0)


def style_axis(axis: Any, x_label: str, *, engineering: bool = False, small: bool = False) -> None:
    """Gives a panel the house style: no box, a light grid, and step counts as 20k or 1M."""
    axis.set_xlabel(x_label, color=INK, fontsize=8 if small else 10)
    axis.tick_params(colors=MUTED, labelsize=8 if small else 9, which="both")
    axis.grid(True, color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
    if engineering:
        ticker = import_extra("matplotlib.ticker", purpose="Plots", package="matplotlib")
        axis.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
        axis.xaxis.set_major_locator(ticker.MaxNLocator(4 if small else 6))


def _time_unit(seconds: np.ndarray) -> tuple[str, float]:
    """Returns the name of a readable unit for the times, and how many seconds it has."""
    longest = np.max(seconds, initial=0.0, where=np.isfinite(seconds))
    if longest > 3 * 3600:
        return "hours", 3600.0
    return ("minutes", 60.0) if longest > 600 else ("seconds", 1.0)
