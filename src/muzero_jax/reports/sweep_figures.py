"""The figures of a sweep's report: learning curves, parallel coordinates, costs, rows of scores."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from muzero_jax.core.dotted import short_value
from muzero_jax.reports.curves import score_curve
from muzero_jax.reports.extras import import_extra
from muzero_jax.reports.page_figures import TEXT_PIXELS, page_figure, titled
from muzero_jax.reports.plots import COLOURS, INK, MUTED, style_axis
from muzero_jax.reports.runs import read_run
from muzero_jax.reports.sweep_summary import (
    Effect,
    SettingSummary,
    are_numbers,
    is_logarithmic,
    pareto_front,
)
from muzero_jax.reports.sweep_table import SweepRecord

_PALE, _BAND = "#C0C6D0", "#F3F4F7"
_HEIGHT, _LINE, _GAP = 290, TEXT_PIXELS + 4, 46
_MOST_COLOURS, _MOST_DOTS, _MOST_ROWS = 6, 40, 10
# Width of a character in pixels, rather too much than too little.
_CHARACTER = 0.6 * TEXT_PIXELS


def learning_curves(sweep: SweepRecord, summaries: Sequence[SettingSummary]) -> str:
    """IQM and interval of the best settings against environment steps; other settings are pale.

    Args:
      sweep: the sweep.
      summaries: summaries of its settings, the best first.
    """
    known = []
    for rank, summary in enumerate(summaries):
        runs = [read_run(sweep.folder / folder) for folder in summary.folders]
        colour = COLOURS[rank] if rank < _MOST_COLOURS else _PALE
        if curve := score_curve(runs):
            known.append((f"{rank + 1}: {summary.label}", colour, curve))

    def draw(axis: Any, width: int) -> float:
        del width
        # The best are drawn last, and so lie on top.
        for name, colour, curve in reversed(known):
            is_best = colour != _PALE
            style: dict[str, Any] = {"color": colour, "linewidth": 2 if is_best else 1}
            if curve.value.size <= (_MOST_DOTS if is_best else 1):
                style |= {"marker": "o", "markersize": 5}
            axis.plot(curve.env_steps, curve.value, **style, **titled(name))
            if is_best:
                band = {"color": colour, "alpha": 0.15, "linewidth": 0}
                axis.fill_between(curve.env_steps, curve.low, curve.high, **band)
        style_axis(axis, "Environment steps", engineering=True, size=TEXT_PIXELS)
        axis.set_ylabel("Greedy score", color=INK)
        return _HEIGHT

    best = [(colour, name) for name, colour, _ in known if colour != _PALE]
    return page_figure("Learning curves", draw, is_wide=True) + _legend(best)


def _legend(entries: Iterable[tuple[str, str]]) -> str:
    """Coloured names, which wrap with the page."""
    items = "".join(
        f'<li><span class="key" style="background: {colour}"></span>{escape(name)}</li>'
        for colour, name in entries
    )
    return f'<ul class="legend">{items}</ul>'


def cost_against_score(summaries: Sequence[SettingSummary]) -> str:
    """Every setting's score against its training seconds, and the settings that nothing beats.

    The number at a dot is the setting's rank. The settings that nothing beats are named below.
    """
    front = pareto_front(summaries)
    seconds, scores = ([one.device_seconds for one in front], [one.estimate for one in front])
    titles = {
        one.number: f"{rank}: {one.label}: {one.estimate:.4g}, {one.device_seconds:.3g} s"
        for rank, one in enumerate(summaries, 1)
    }

    def draw(axis: Any, width: int) -> float:
        for one in (one for one in summaries if one.score and one not in front):
            place = one.device_seconds, one.estimate
            axis.plot(*place, "o", color=_PALE, markersize=6, **titled(titles[one.number]))
        axis.step(seconds, scores, where="post", color=COLOURS[1], linewidth=1.2)
        for one in front:
            place = one.device_seconds, one.estimate
            axis.plot(*place, "o", color=COLOURS[1], markersize=9, **titled(titles[one.number]))
        style_axis(axis, "Device seconds of training a run", size=TEXT_PIXELS)
        axis.set_ylabel("Final score (IQM)", color=INK)
        axis.margins(0.1)
        if is_logarithmic([one.device_seconds for one in summaries if one.score]):
            ticker = import_extra("matplotlib.ticker", purpose="Reports", package="matplotlib")
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_locator(ticker.NullLocator())
        axis.autoscale_view()
        ranks = [summaries.index(one) + 1 for one in front]
        _write_apart(axis, ranks, zip(seconds, scores, strict=True), width)
        return _HEIGHT

    named = [(COLOURS[1], titles[one.number]) for one in front]
    return page_figure("Cost against score", draw) + _legend(named)


def _write_apart(
    axis: Any, names: Iterable[int], places: Iterable[tuple[float, float]], width: int
) -> None:
    """Writes names at the upper left of places, but none that would touch another."""
    written: list[np.ndarray] = []
    for name, place in zip(names, places, strict=True):
        share = (axis.transScale + axis.transLimits).transform(place)
        at = share * (0.8 * width, 0.8 * _HEIGHT)
        if all((np.abs(at - other) > (2 * TEXT_PIXELS, _LINE)).any() for other in written):
            axis.annotate(str(name), place, (-5, 5), textcoords="offset points", ha="right")
            written.append(at)


def seed_scatter(summaries: Sequence[SettingSummary]) -> str:
    """Final scores of every seed of the best settings."""
    known = enumerate(summaries[:_MOST_ROWS], 1)
    rows = [Effect(rank, one.scores, one.score) for rank, one in known if one.score]
    return _rows("Seeds", "Rank", rows)


def marginal_effect(name: str, found: Sequence[Effect]) -> str:
    """Scores of all finished runs by the value of the setting `name`, and their IQMs."""
    return _rows(f"Effect of {name}", "", found)


def _rows(name: str, label: str, rows: Sequence[Effect]) -> str:
    """A row for each value: a dot for each score, the interval as a bar, the IQM as a stroke."""

    def draw(axis: Any, width: int) -> float:
        for place, (value, scores, score) in enumerate(rows):
            told = f"{value}: {score.estimate:.4g} ({score.low:.4g} to {score.high:.4g})"
            axis.plot(scores, [place] * len(scores), "o", color=_PALE, **titled(told))
            axis.plot(score[1:], [place] * 2, color=COLOURS[0], linewidth=2)
            style = {"color": COLOURS[0], "markersize": 14, "markeredgewidth": 3}
            axis.plot(score.estimate, place, "|", **style)
        texts = [_shortened(short_value(row.value), width // 25) for row in rows]
        axis.set_yticks(range(len(rows)), texts)
        axis.set_ylim(len(rows) - 0.5, -0.5)
        style_axis(axis, "Final score", size=TEXT_PIXELS)
        axis.set_ylabel(label, color=INK)
        return 26 * len(rows) + 50

    return page_figure(name, draw)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def parallel_coordinates(summaries: Sequence[SettingSummary], varied: Sequence[str]) -> str:
    """A line for each setting through its values to its score, by which it is coloured.

    The axes lie one below the other, so that there is room for any number of them on a narrow page.
    Each axis is a band in which its values are written. No line is seen in a band.

    Args:
      summaries: summaries of the settings, the best first.
      varied: dotted names of the settings that get an axis.
    """
    known = [summary for summary in summaries if summary.score]
    columns = {name.rpartition(".")[2]: [one.values[name] for one in known] for name in varied}
    scores = [one.estimate for one in known]
    colours = import_extra("matplotlib", purpose="Reports", package="matplotlib").colormaps

    def draw(axis: Any, width: int) -> float:
        places: list[np.ndarray] = []
        heights: list[float] = []
        for name, values in [*columns.items(), ("score", scores)]:
            top = heights[-1] + _GAP if heights else 0.0
            places += [_places(values, width)] * 2
            heights += [top, _draw_band(axis, name, values, top, width)]
        # A line begins and ends behind a band, not at the edge of it.
        edges = [heights[0] + 4, *heights[1:-1], heights[-1] - 4]
        bright = 0.9 * places[-1] / width
        # The best are drawn last, and so lie on top.
        for index, one in reversed(list(enumerate(known))):
            style = {"color": colours["viridis"](bright[index]), "linewidth": 1.5 + (index == 0)}
            told = titled(f"{one.label}: {one.estimate:.4g}")
            xs = [place[index] for place in places]
            axis.plot(xs, edges, **style, **told)
        axis.set(xlim=(0, width), ylim=(heights[-1], 0))
        axis.axis("off")
        return heights[-1]

    return page_figure("Parallel coordinates", draw, is_wide=True)


def _places(values: Sequence[Any], width: int) -> np.ndarray:
    """Pixels from the left to values on a page; words are in alphabetical order."""
    if are_numbers(values):
        numbers = np.log(values) if is_logarithmic(values) else np.asarray(values, float)
    else:
        numbers = np.unique([str(value) for value in values], return_inverse=True)[1].astype(float)
    low, high = numbers.min(), numbers.max()
    if not high > low:
        return np.full(len(numbers), width / 2)
    return np.interp(numbers, [low, high], [0.03 * width, 0.97 * width])


def _draw_band(axis: Any, name: str, values: Sequence[Any], top: float, width: int) -> float:
    """Draws the band of an axis with its name and its values.

    A value is written into the first line below the name where it fits. Of many numbers only those
    are written that fit into one line, because a reader can interpolate between them.

    Args:
      axis: matplotlib's axes.
      name: name of the axis.
      values: the values, of each setting.
      top: upper edge of the band in pixels from the top.
      width: width of the figure in pixels.

    Returns:
      The lower edge of the band.
    """
    texts = [_shortened(short_value(value), 24) for value in values]
    shown = sorted(dict(zip(_places(values, width), texts, strict=True)).items())
    most_lines = 1 if are_numbers(values) and len(shown) > 8 else 12
    taken: list[tuple[int, float, float]] = []
    for place, text in dict.fromkeys([shown[0], shown[-1], *shown]):
        length = _CHARACTER * len(text) + 4
        start = float(np.clip(place - length / 2, 0, width - length))
        busy = {line for line, left, right in taken if left < start + length and start < right}
        line = next((one for one in range(1, most_lines + 1) if one not in busy), None)
        if line is not None:
            taken.append((line, start, start + length))
            axis.text(start + length / 2, top + _LINE * (line + 1) - 4, text, ha="center")
    bottom = top + _LINE * (max(line for line, _, _ in taken) + 1) + 6
    axis.text(6, top + _LINE - 4, name, color=MUTED)
    axis.axhspan(top, bottom, color=_BAND, linewidth=0, zorder=2.5)
    return bottom
