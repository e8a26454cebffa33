"""The charts of a sweep's report: learning curves, cost against score, and rows of scores.

A row of scores is a line of text, which wraps, above a strip of dots with an interval.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

from muzero_jax.core.dotted import short_value
from muzero_jax.reports import fluid_svg as svg
from muzero_jax.reports.curves import Curve, score_curve
from muzero_jax.reports.plots import COLOURS
from muzero_jax.reports.runs import RunGroup, read_run
from muzero_jax.reports.scales import Scale, make_scale
from muzero_jax.reports.statistics import Interval
from muzero_jax.reports.sweep_summary import SettingSummary, effects, is_logarithmic, pareto_front
from muzero_jax.reports.sweep_table import SweepRecord

_HEIGHT, _STRIP = 280, 18
_MOST_COLOURS, _MOST_DOTS, _MOST_ROWS = 6, 40, 10


class _Line(NamedTuple):
    """The learning curve of one setting; each of the best settings has a colour of its own."""

    name: str
    colour: str
    curve: Curve

    @property
    def is_best(self) -> bool:
        return self.colour != svg.PALE

    def points(self, plane: svg.Plane, values: Iterable[float]) -> list[svg.Point]:
        return list(itertools.starmap(plane.point, zip(self.curve.env_steps, values, strict=True)))


def learning_curves(sweep: SweepRecord, summaries: Sequence[SettingSummary]) -> str:
    """IQM and interval of the best settings against environment steps; other settings are pale.

    Args:
      sweep: the sweep.
      summaries: summaries of its settings, the best first.
    """
    lines = []
    for rank, summary in enumerate(summaries):
        runs = tuple(read_run(sweep.folder / folder) for folder in summary.folders)
        curve = score_curve(RunGroup("", runs))
        if curve is not None:
            colour = COLOURS[rank] if rank < _MOST_COLOURS else svg.PALE
            lines.append(_Line(f"{rank + 1}: {summary.label}", colour, curve))
    x = make_scale([steps for line in lines for steps in line.curve.env_steps], margin=0.02)
    plane = svg.Plane(x, make_scale([score for line in lines for score in _heights(line)]), _HEIGHT)
    # The best are drawn last, and so lie on top.
    paths = [one for line in reversed(lines) for one in _paths(line, plane)]
    dots = [dot.svg() for line in reversed(lines) for dot in _dots(line, plane)]
    content = [svg.stretched(paths, _HEIGHT), *dots]
    legend = _legend([(line.colour, line.name) for line in lines if line.is_best])
    return plane.chart(content, "Environment steps", "Greedy score") + legend


def _heights(line: _Line) -> Iterable[float]:
    """All scores that are drawn: the curve, and its band where the setting is good."""
    curve = line.curve
    return itertools.chain(curve.value, *((curve.low, curve.high) if line.is_best else ()))


def _paths(line: _Line, plane: svg.Plane) -> list[str]:
    curve, width = line.curve, 2 if line.is_best else 1
    points = line.points(plane, curve.value)
    drawn = svg.path([points], stroke=line.colour, width=width, title=line.name)
    if not line.is_best:
        return [drawn]
    band = [*line.points(plane, curve.high), *line.points(plane, curve.low)[::-1]]
    return [svg.path([band], fill=line.colour), drawn]


def _dots(line: _Line, plane: svg.Plane) -> list[svg.Dot]:
    """Dots for the evaluations of a good setting, and for a curve of a single evaluation."""
    curve = line.curve
    if curve.value.size > (_MOST_DOTS if line.is_best else 1):
        return []
    shown = zip(line.points(plane, curve.value), curve.value, curve.env_steps, strict=True)
    return [
        svg.Dot(*place, 3, line.colour, f"{line.name}: {score:.4g} after {steps:,.0f} steps")
        for place, score, steps in shown
    ]


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
    known = [(rank, one) for rank, one in enumerate(summaries, 1) if one.score]
    seconds = [summary.device_seconds for _, summary in known]
    x = make_scale(seconds, is_logarithmic=is_logarithmic(seconds), margin=0.1)
    plane = svg.Plane(x, make_scale([summary.estimate for _, summary in known]), _HEIGHT)
    front = {summary.number for summary in pareto_front(summaries)}
    dots: dict[int, svg.Dot] = {}
    # The front comes last, so that its dots lie on top and get their numbers first.
    for rank, summary in sorted(known, key=lambda one: one[1].number in front):
        cost, score = summary.device_seconds, summary.estimate
        radius, colour = (5, COLOURS[1]) if summary.number in front else (3.5, svg.PALE)
        title = f"{rank}: {summary.label}: {score:.4g}, {cost:.3g} s"
        dots[rank] = svg.Dot(*plane.point(cost, score), radius, colour, title)
    best = sorted((dots[rank] for rank, s in known if s.number in front), key=lambda d: d.share)
    stairs = _stairs(best)
    blocks = list(itertools.starmap(svg.Block, itertools.pairwise(stairs)))
    marks: list[svg.Dot | svg.Words] = [*dots.values(), *_numbers(dots, blocks)]
    line = svg.path([stairs], stroke=COLOURS[1], width=1.2)
    content = [svg.stretched([line], _HEIGHT), *(mark.svg() for mark in marks)]
    chart = plane.chart(content, "Device seconds of training a run", "Final score (IQM)")
    return chart + _legend([(COLOURS[1], dot.title) for dot in best])


def _stairs(dots: Sequence[svg.Dot]) -> list[svg.Point]:
    """The corners of a line from each dot to the right, then up or down to the next dot."""
    corners = [(dots[0].share, dots[0].y)]
    for dot in dots[1:]:
        corners += [(dot.share, corners[-1][1]), (dot.share, dot.y)]
    return corners


def _numbers(dots: Mapping[int, svg.Dot], blocks: Sequence[svg.Block]) -> list[svg.Words]:
    """The ranks beside the dots, wherever a rank touches no other rank, no dot and no block.

    The last dot is the first to get its rank.
    """
    placed: list[svg.Words] = []
    for rank, dot in reversed(list(dots.items())):
        near = dot.radius + 3
        above, beside, below = dot.y - near, dot.y + 4, dot.y + near + 10
        places: tuple[tuple[float, svg.Anchor, float], ...] = (
            *((above, "middle", 0.0), (below, "middle", 0.0)),
            *((beside, "start", near), (beside, "end", -near)),
            *((above, "end", -near / 2), (below, "start", near / 2)),
            *((above, "start", near / 2), (below, "end", -near / 2)),
        )
        alternatives = [svg.Words(str(rank), dot.share, *place) for place in places]
        others: list[svg.Placed] = [*dots.values(), *placed, *blocks]
        placed += svg.first_fitting(filter(svg.is_inside, alternatives), others)
    return placed


class _Row(NamedTuple):
    label: str
    score: Interval
    scores: Sequence[float]


def seed_scatter(summaries: Sequence[SettingSummary]) -> str:
    """Final scores of every seed of the best settings."""
    known = [(rank, s, s.score) for rank, s in enumerate(summaries, 1) if s.score][:_MOST_ROWS]
    return _rows([_Row(f"{rank}: {s.label}", score, s.scores) for rank, s, score in known])


def marginal_effect(sweep: SweepRecord, name: str) -> str:
    """Scores of all finished runs by the value of one setting, and their IQM with its interval."""
    found = effects(sweep, name)
    return _rows([_Row(short_value(one.value), one.score, one.scores) for one in found])


def _rows(rows: Sequence[_Row]) -> str:
    scale = make_scale([x for r in rows for x in (*r.scores, r.score.low, r.score.high)])
    axis = svg.canvas([words.svg() for words in svg.ticks_below(scale, 14)], 16)
    return (
        f'<div class="chart">{"".join(_row(row, scale) for row in rows)}{axis}'
        '<p class="axis below" style="margin-top: 2px">Final score</p></div>'
    )


def _row(row: _Row, scale: Scale) -> str:
    count = len(row.scores)
    score, runs = row.score, f"{count} run{'s' if count > 1 else ''}"
    interval = f" ({score.low:.4g} to {score.high:.4g})" if count > 1 else ""
    return (
        f'<div class="row"><p><span>{escape(row.label)}</span>'
        f'<span class="quiet">{score.estimate:.4g}{interval}, {runs}</span></p>'
        f"{svg.canvas(_strip(row, scale), _STRIP)}</div>"
    )


def _strip(row: _Row, scale: Scale) -> list[str]:
    """The marks of a row: round numbers, one dot for each run, the interval and its estimate."""
    middle = _STRIP / 2
    dots = [
        svg.Dot(scale.share(score), middle, 3.5, svg.PALE, f"{row.label}: {score:.4g}").svg()
        for score in row.scores
        if math.isfinite(score)
    ]
    low, estimate, high = map(scale.share, (row.score.low, row.score.estimate, row.score.high))
    bar = svg.segment((low, middle), (high, middle), COLOURS[0], 2)
    mark = svg.segment((estimate, 2), (estimate, _STRIP - 2), COLOURS[0], 3)
    return [*svg.vertical_lines(scale, _STRIP), *dots, bar, mark]
