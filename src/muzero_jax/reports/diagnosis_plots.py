"""The figure of a diagnosis: how the errors of a learned model grow with depth."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muzero_jax.reports.extras import import_extra
from muzero_jax.reports.plots import (
    COLOURS,
    INK,
    MUTED,
    add_legend,
    new_figure,
    save_figure,
    style_axis,
)

_RETURN_ERROR = "model/value_error_at_depth_0_own"
_WAYS = {"own": "the agent's own actions", "random": "random actions"}


def plot_model_errors(metrics: Mapping[str, float], title: str, out: Path) -> None:
    """Draws the value and reward errors of a model over the depth of its unrolling to a PNG.

    Args:
      metrics: the metrics of a diagnosis by name.
      title: what was diagnosed.
      out: the PNG to write; its folder is made where it is missing.

    Raises:
      MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure((9, 4.4))
    figure.suptitle(title, fontsize=12, fontweight="bold", color=INK)
    ticker = import_extra("matplotlib.ticker", purpose="Plots", package="matplotlib")
    legend: list[Any] = []
    for axis, kind in zip(figure.subplots(1, 2), ("value", "reward"), strict=True):
        colours = dict(zip(_WAYS, COLOURS, strict=False))
        lines = [_draw(axis, metrics, kind, way, colour) for way, colour in colours.items()]
        if kind == "value":
            scale = _draw_scale(axis, metrics["model/value_spread"], MUTED)
            legend = [*lines, *_draw_return_error(axis, metrics), scale]
        else:
            for way, colour in colours.items():
                _draw_scale(axis, metrics[f"model/reward_size_{way}"], colour)
        style_axis(axis, "Depth: steps of the model")
        axis.set_ylabel(f"Mean absolute error of the {kind}", color=INK)
        axis.set_ylim(bottom=0.0)
        axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    add_legend(figure, legend, num_columns=2)
    save_figure(figure, out)


def _draw(axis: Any, metrics: Mapping[str, float], kind: str, way: str, colour: str) -> Any:
    """Draws the errors along the actions of one way; returns the line."""
    found = dict[int, float]()  # Depth 0 is another comparison.
    for name, error in metrics.items():
        begin, _, rest = name.partition("_error_at_depth_")
        depth, _, named = rest.partition("_")
        if begin == f"model/{kind}" and named == way and depth != "0":
            found[int(depth)] = error
    depths = sorted(found)
    style = {"color": colour, "linewidth": 2, "marker": "o", "markersize": 4}
    (line,) = axis.plot(depths, [found[d] for d in depths], label=f"along {_WAYS[way]}", **style)
    return line


def _draw_return_error(axis: Any, metrics: Mapping[str, float]) -> list[Any]:
    """Draws the error of the value itself, where it was measured; returns the mark in a list."""
    error = metrics.get(_RETURN_ERROR, math.nan)
    if math.isnan(error):
        return []
    label = "value of an observation against its return (depth 0)"
    return list(axis.plot([0], [error], "D", color=INK, markersize=6, label=label))


def _draw_scale(axis: Any, height: float, colour: str) -> Any:
    """Draws what an error is to be compared with; returns the line."""
    label = "for comparison: spread of the values, mean size of the rewards"
    return axis.axhline(height, color=colour, linestyle="--", linewidth=1, label=label)
