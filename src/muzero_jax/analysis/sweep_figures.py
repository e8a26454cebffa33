"""The figures of a sweep's report, as SVG that shows a title where the mouse rests."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias
from xml.sax.saxutils import escape

import numpy as np

from muzero_jax.analysis.curves import score_curve
from muzero_jax.analysis.extras import import_extra
from muzero_jax.analysis.plots import COLOURS, INK, style_axis
from muzero_jax.analysis.runs import RunGroup, read_run
from muzero_jax.analysis.sweep_summary import (
    SettingSummary,
    are_numbers,
    effects,
    is_logarithmic,
    pareto_front,
)
from muzero_jax.analysis.sweep_table import SweepRecord

_WIDTH, _HEIGHT = 5.6, 3.7
_PALE = "#C9CED6"

Label: TypeAlias = Callable[[int], str]
"""From a setting's number to a few words."""


class Figure:
    """A matplotlib figure whose artists can be given titles."""

    def __init__(self, width: float = _WIDTH, height: float = _HEIGHT):
        module = import_extra("matplotlib.figure", purpose="Reports", package="matplotlib")
        self.figure = module.Figure(figsize=(width, height), layout="constrained")
        self._titles: dict[str, str] = {}

    def title(self, artist: Any, text: str) -> None:
        """Shows `text` where the mouse rests on an artist."""
        name = f"titled-{id(self)}-{len(self._titles)}"
        artist.set_gid(name)
        self._titles[name] = text

    def svg(self) -> str:
        """The figure as an SVG element that fills the width it is given."""
        file = io.StringIO()
        # Text stays text, and the same figure always gives the same file.
        with _matplotlib().rc_context({"svg.fonttype": "none", "svg.hashsalt": "muzero"}):
            self.figure.savefig(file, format="svg", metadata={"Date": None})
        svg = file.getvalue()[file.getvalue().index("<svg") :]
        svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
        svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
        for name, text in self._titles.items():
            svg = svg.replace(f'<g id="{name}">', f"<g><title>{escape(text)}</title>", 1)
        return svg


def learning_curves(
    sweep: SweepRecord, summaries: Sequence[SettingSummary], label: Label, most: int = 6
) -> str:
    """IQM and interval of the best settings against environment steps; the others are pale.

    Args:
      sweep: as read.
      summaries: of its settings, the best first.
      label: names a setting.
      most: settings that get a colour.
    """
    figure = Figure(2 * _WIDTH, _HEIGHT)
    axis = figure.figure.subplots()
    for rank, summary in reversed(list(enumerate(summaries))):
        name = label(summary.number)
        runs = tuple(read_run(sweep.folder / folder) for folder in summary.folders)
        curve = score_curve(RunGroup(name, runs)) if runs else None
        if curve is None:
            continue
        is_good = rank < most
        style = {"color": _PALE, "linewidth": 1, "zorder": 1}
        if is_good:
            style = {"color": COLOURS[rank], "linewidth": 2, "zorder": 3, "label": name}
            band = {"color": COLOURS[rank], "alpha": 0.15, "linewidth": 0}
            axis.fill_between(curve.env_steps, curve.low, curve.high, **band)
        (line,) = axis.plot(curve.env_steps, curve.value, **style)
        figure.title(line, name)
    style_axis(axis, "Environment steps", engineering=True)
    axis.set_ylabel("Greedy score", color=INK)
    handles = axis.get_legend_handles_labels()[0][::-1]
    figure.figure.legend(
        handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8
    )
    return figure.svg()


def parallel_coordinates(
    summaries: Sequence[SettingSummary], varied: Sequence[str], label: Label
) -> str:
    """A line for each setting through its values, ending at and coloured by its score."""
    figure = Figure(2 * _WIDTH, _HEIGHT)
    axis = figure.figure.subplots()
    known = [(summary, summary.score.estimate) for summary in summaries if summary.score]
    columns: dict[str, list[Any]] = {name: [s.values[name] for s, _ in known] for name in varied}
    columns["score"] = [score for _, score in known]
    pairs = enumerate(columns.items())
    heights = {name: _draw_upright(axis, place, values) for place, (name, values) in pairs}
    colormap = _matplotlib().colormaps["viridis"]
    for index, (summary, score) in reversed(list(enumerate(known))):
        path = [heights[name][index] for name in columns]
        style = {"color": colormap(0.92 * path[-1]), "linewidth": 1.6, "alpha": 0.85}
        (line,) = axis.plot(range(len(columns)), path, **style)
        figure.title(line, f"{label(summary.number)}: {score:.4g}")
    axis.set_xticks(range(len(columns)), [name.rpartition(".")[2] for name in columns])
    axis.set_yticks([])
    axis.set_ylim(-0.06, 1.06)
    axis.set_xlim(-0.15, len(columns) - 0.7)
    axis.tick_params(colors=INK, labelsize=9, length=0, pad=8)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure.svg()


def _draw_upright(axis: Any, place: int, values: Sequence[Any]) -> list[float]:
    """Draws one upright axis with its values; returns where each lies between 0 and 1."""
    axis.axvline(place, color=_PALE, linewidth=1, zorder=0)
    names, numbers = _as_numbers(values)
    low, high = min(numbers), max(numbers)
    heights = [(x - low) / (high - low) if high > low else 0.5 for x in numbers]
    shown = sorted(dict(zip(heights, names, strict=True)).items())
    background = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 0.8}
    style = {"fontsize": 8, "color": INK, "va": "center", "bbox": background, "zorder": 5}
    for height, name in shown if len(shown) <= 7 else [shown[0], shown[-1]]:
        offset = {"xytext": (4, 0), "textcoords": "offset points"}
        axis.annotate(name, (place, height), **offset, **style)
    return heights


def _as_numbers(values: Sequence[Any]) -> tuple[list[str], list[float]]:
    """Values as text, and as numbers to place them by: of words, the place in the alphabet."""
    if not are_numbers(values):
        order = sorted({str(value) for value in values})
        return [str(v) for v in values], [float(order.index(str(v))) for v in values]
    numbers = np.log(values) if is_logarithmic(values) else np.asarray(values, float)
    return [f"{value:.4g}" for value in values], list(map(float, numbers))


def marginal_effect(sweep: SweepRecord, name: str) -> str:
    """Scores of all finished runs by the value of one setting, and their IQM with its interval."""
    found = effects(sweep, name)
    figure = Figure(_WIDTH, 0.85 * _HEIGHT)
    axis = figure.figure.subplots()
    values = [effect.value for effect in found]
    is_number = are_numbers(values)
    places = values if is_number else list(range(len(values)))
    for place, effect in zip(places, found, strict=True):
        count = len(effect.scores)
        dots = axis.scatter([place] * count, effect.scores, s=14, color=_PALE, zorder=1)
        figure.title(dots, f"{name} = {effect.value}: {count} runs")
        axis.plot([place] * 2, [effect.score.low, effect.score.high], color=COLOURS[0], linewidth=2)
    estimates = [effect.score.estimate for effect in found]
    axis.plot(places, estimates, "o-", color=COLOURS[0], linewidth=1.5)
    style_axis(axis, name)
    if is_logarithmic(values):
        axis.set_xscale("log")
    if len(places) <= 6 or not is_number:
        labels = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in values]
        # Of words all are shown: between two of them there is no axis to read the rest from.
        shown = far_apart(_as_numbers(values)[1]) if is_number else range(len(values))
        axis.set_xticks([places[i] for i in shown], [labels[i] for i in shown])
        axis.minorticks_off()
    axis.set_ylabel("Final score", color=INK)
    return figure.svg()


def far_apart(places: Sequence[float], least: float = 0.08) -> list[int]:
    """Which of ascending places to label, so that no two labels touch.

    Args:
      places: along an axis.
      least: distance of two labels, as a share of the axis.
    """
    shown = [0]
    for i in range(1, len(places)):
        if places[i] - places[shown[-1]] >= least * (places[-1] - places[0]):
            shown.append(i)
    return shown


def seed_scatter(summaries: Sequence[SettingSummary], label: Label, most: int = 16) -> str:
    """Final scores of every seed, setting by setting, the best first."""
    known = [(summary, summary.score) for summary in summaries if summary.score][:most]
    figure = Figure(_WIDTH, max(_HEIGHT, 0.24 * len(known) + 1))
    axis = figure.figure.subplots()
    for place, (summary, score) in enumerate(known):
        scores = summary.scores
        dots = axis.scatter(scores, [place] * len(scores), s=16, color=_PALE, zorder=1)
        figure.title(dots, ", ".join(f"{one:.4g}" for one in scores))
        axis.plot([score.low, score.high], [place] * 2, color=COLOURS[0], linewidth=2)
        mark = {"marker": "|", "markersize": 10, "markeredgewidth": 2}
        axis.plot(score.estimate, place, color=COLOURS[0], **mark)
    style_axis(axis, "Final score")
    names = [label(summary.number) for summary, _ in known]
    axis.set_yticks(range(len(known)), names, fontsize=8)
    axis.invert_yaxis()
    return figure.svg()


def cost_against_score(summaries: Sequence[SettingSummary], label: Label) -> str:
    """Every setting's score against its training seconds, and the front that nothing beats."""
    figure = Figure()
    axis = figure.figure.subplots()
    front = {summary.number for summary in pareto_front(summaries)}
    known = [(s, s.device_seconds, s.score.estimate) for s in summaries if s.score]
    for summary, seconds, score in known:
        style = {"s": 18, "color": _PALE, "zorder": 1}
        if summary.number in front:
            style = {"s": 36, "color": COLOURS[1], "zorder": 3}
        dot = axis.scatter([seconds], [score], **style)
        figure.title(dot, f"{label(summary.number)}: {score:.4g}, {seconds:.3g} s")
    best = sorted((x, y) for summary, x, y in known if summary.number in front)
    axis.step(*zip(*best, strict=True), where="post", color=COLOURS[1], linewidth=1.2, zorder=2)
    style_axis(axis, "Device seconds of training a run")
    if is_logarithmic([seconds for _, seconds, _ in known]):
        axis.set_xscale("log")
    axis.set_ylabel("Final score (IQM)", color=INK)
    return figure.svg()


def _matplotlib() -> Any:
    return import_extra("matplotlib", purpose="Reports", package="matplotlib")
