"""Figures of studies: panels of lines with bands, in the house style."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muzero_jax.reports import plots


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
    """A line of a panel, with or without a band around it.

    Attributes:
      label: name in the legend; lines of one label have one colour in all panels.
      x: `[N]` horizontal places.
      y: `[N]` values; values that are not finite are left out.
      band: `[2, N]` lower and upper edge of the band; None for a line without a band.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    band: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """One of the panels of a figure.

    Attributes:
      title: text above the panel.
      x_label: text below the panel.
      y_label: text beside the panel.
      lines: the lines of the panel.
      levels: pairs of a text and a value that a thin line marks.
      log_x: whether the horizontal axis is logarithmic, to base 2.
      log_y: whether the vertical axis is logarithmic, to base 2.
      markers: whether points are marked, because nothing was measured between them.
      ticks: names of the places 0, 1, ..., where x is not a number; points are then not joined.
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


def quartiles(samples: np.ndarray) -> np.ndarray:
    """The lower quartile, the median and the upper quartile over the first axis, `[3, ...]`.

    Each of them is one of the samples, so that the time to an event that never happened may be
    infinite.
    """
    return np.quantile(samples, (0.25, 0.5, 0.75), axis=0, method="inverted_cdf")


def median_line(label: str, x: np.ndarray, samples: np.ndarray) -> Line:
    """Makes the line of the median over seeds, with the quartiles as its band.

    Args:
      label: name of the line in the legend.
      x: `[N]` horizontal places.
      samples: `[num_seeds, N]` values.
    """
    low, middle, high = quartiles(samples)
    return Line(label, x, middle, np.stack([low, high]))


def draw_panels(panels: Sequence[Panel], out: Path) -> None:
    """Draws at least one panel, side by side with one legend, to a PNG in a new or old folder.

    Raises:
      MissingExtraError: matplotlib is not installed.
    """
    figure = plots.new_figure((1.8 + 4.6 * len(panels), 5.0))
    labels = dict.fromkeys(line.label for panel in panels for line in panel.lines)
    styles = dict(zip(labels, itertools.cycle(plots.LINE_STYLES), strict=False))
    handles: dict[str, Any] = {}
    for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for line in panel.lines:
            drawn = _draw(axis, line, styles[line.label], panel)
            drawn.set_label(line.label)
            handles.setdefault(line.label, drawn)
        _finish(axis, panel)
    plots.add_legend(figure, list(handles.values()), min(len(handles), 2 * len(panels)))
    plots.save_figure(figure, out, dpi=130)


def _draw(axis: Any, line: Line, style: dict[str, str], panel: Panel) -> Any:
    """Draws a line with its band, or points with bars; returns the element for the legend."""
    x, y, band, colour = line.x, line.y, line.band, style["color"]
    if panel.ticks:
        bars = None if band is None else np.abs(band - y)
        return axis.errorbar(x, y, bars, fmt="o", capsize=3, markersize=6, color=colour)
    shown = np.isfinite(y)
    if band is not None:
        low, high = np.where(np.isfinite(band), band, np.nan)[:, shown]
        axis.fill_between(x[shown], low, high, color=colour, alpha=0.15, linewidth=0)
    marker = "o" if panel.markers else None
    return axis.plot(x[shown], y[shown], linewidth=1.8, marker=marker, markersize=4, **style)[0]


def _finish(axis: Any, panel: Panel) -> None:
    by_number = not (panel.log_x or panel.markers or panel.ticks)
    plots.style_axis(axis, panel.x_label, engineering=by_number)
    if panel.ticks:
        axis.set_xticks(range(len(panel.ticks)), panel.ticks)
        axis.set_xlim(-0.5, len(panel.ticks) - 0.5)
    axis.set_ylabel(panel.y_label, color=plots.INK)
    axis.set_title(panel.title, fontsize=10, color=plots.INK)
    if panel.log_x:
        axis.set_xscale("log", base=2)
        measured = sorted({float(x) for line in panel.lines for x in line.x})
        axis.set_xticks(measured, [f"{x:g}" for x in measured])
    if panel.log_y:
        axis.set_yscale("log", base=2)
    for text, level in panel.levels:
        axis.axhline(level, color=plots.MUTED, linewidth=0.8, linestyle=":")
        style = {"ha": "right", "va": "bottom", "fontsize": 7.5, "color": plots.MUTED}
        axis.text(0.995, level, text, transform=axis.get_yaxis_transform(), **style)
