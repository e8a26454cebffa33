"""Figures of studies: panels of lines with bands, in the house style."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muzero_jax.reports.plots import COLOURS, INK, MUTED, new_figure, save_png, style_axis
from muzero_jax.reports.statistics import order_quantile


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
    """A line of a panel.

    Attributes:
      label: in the legend; lines of one label have one colour in all panels.
      x: `[N]`.
      y: `[N]`; what is not finite is left out.
      low: `[N]` lower edge of the band; no band where None.
      high: `[N]` upper edge of the band.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """One of the panels of a figure.

    Attributes:
      title: above it.
      x_label: below it.
      y_label: beside it.
      lines: what is drawn.
      levels: values that a thin line marks, by their text.
      log_x: whether the axis is logarithmic, to base 2.
      log_y: likewise.
      markers: whether points are marked, where between them nothing was measured.
      ticks: names of the places 0, 1, ... where x is no number; points are then not joined.
    """

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    levels: Sequence[tuple[str, float]] = ()
    log_x: bool = False
    log_y: bool = False
    markers: bool = False
    ticks: Sequence[str] = ()


def median_line(label: str, x: np.ndarray, samples: np.ndarray) -> Line:
    """The median over seeds of `[num_seeds, N]`, with the quartiles as its band."""
    low, middle, high = (order_quantile(samples, share) for share in (0.25, 0.5, 0.75))
    return Line(label, x, middle, low, high)


def mean_line(label: str, x: np.ndarray, samples: np.ndarray) -> Line:
    """The mean over seeds of `[num_seeds, N]`, with one standard deviation as its band."""
    mean, std = samples.mean(axis=0), samples.std(axis=0)
    return Line(label, x, mean, mean - std, mean + std)


def draw_panels(panels: Sequence[Panel], out: Path) -> None:
    """Draws panels side by side to a PNG, with one legend.

    Args:
      panels: at least one.
      out: the file to write; its folder is made.

    Raises:
      MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure((1.8 + 4.6 * len(panels), 5.0))
    labels = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}
    styles = {label: "-" if i < len(COLOURS) else "--" for i, label in enumerate(labels)}
    handles: dict[str, Any] = {}
    for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for line in panel.lines:
            style = {"color": colours[line.label], "linestyle": styles[line.label]}
            drawn = (
                _draw_points(axis, line, style["color"])
                if panel.ticks
                else _draw_line(axis, line, style, panel.markers)
            )
            handles.setdefault(line.label, drawn)
        _finish(axis, panel)
    figure.legend(
        handles=list(handles.values()),
        labels=list(handles),
        loc="outside lower center",
        ncols=min(len(handles), 2 * len(panels)),
        frameon=False,
        fontsize=9,
    )
    save_png(figure, out, dpi=130)


def _draw_line(axis: Any, line: Line, style: dict[str, str], markers: bool) -> Any:
    shown = np.isfinite(line.y)
    if line.low is not None and line.high is not None:
        high = np.where(np.isfinite(line.high), line.high, np.nan)
        axis.fill_between(
            line.x[shown],
            line.low[shown],
            high[shown],
            color=style["color"],
            alpha=0.15,
            linewidth=0,
        )
    marker = "o" if markers else None
    (drawn,) = axis.plot(
        line.x[shown], line.y[shown], linewidth=1.8, marker=marker, markersize=4, **style
    )
    return drawn


def _draw_points(axis: Any, line: Line, colour: str) -> Any:
    """Points with bars from the lower to the upper edge."""
    bars = None
    if line.low is not None and line.high is not None:
        bars = np.stack([line.y - line.low, line.high - line.y])
    return axis.errorbar(line.x, line.y, bars, fmt="o", capsize=3, markersize=6, color=colour)


def _finish(axis: Any, panel: Panel) -> None:
    by_number = not (panel.log_x or panel.markers or panel.ticks)
    style_axis(axis, panel.x_label, engineering=by_number)
    if panel.ticks:
        axis.set_xticks(range(len(panel.ticks)), panel.ticks)
        axis.set_xlim(-0.5, len(panel.ticks) - 0.5)
    axis.set_ylabel(panel.y_label, color=INK)
    axis.set_title(panel.title, fontsize=10, color=INK)
    if panel.log_x:
        axis.set_xscale("log", base=2)
        measured = sorted({float(x) for line in panel.lines for x in line.x})
        axis.set_xticks(measured, [f"{x:g}" for x in measured])
    if panel.log_y:
        axis.set_yscale("log", base=2)
    for text, level in panel.levels:
        axis.axhline(level, color=MUTED, linewidth=0.8, linestyle=":")
        axis.text(0.995, level, text, transform=axis.get_yaxis_transform(), **_LEVEL_TEXT)


_LEVEL_TEXT = {"ha": "right", "va": "bottom", "fontsize": 7.5, "color": MUTED}
