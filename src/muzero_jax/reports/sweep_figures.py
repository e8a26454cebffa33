"""The charts of a sweep's report that have two axes: learning curves, and cost against score."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple, TypeAlias

from muzero_jax.reports.curves import Curve, score_curve
from muzero_jax.reports.fluid_svg import (
    PALE,
    Block,
    Dot,
    Words,
    fits,
    is_inside,
    path,
    plot,
    stretched,
)
from muzero_jax.reports.plots import COLOURS
from muzero_jax.reports.runs import RunGroup, read_run
from muzero_jax.reports.scales import Scale, make_scale
from muzero_jax.reports.sweep_summary import SettingSummary, is_logarithmic, pareto_front
from muzero_jax.reports.sweep_table import SweepRecord

_HEIGHT = 280
_MOST_DOTS = 40

Label: TypeAlias = Callable[[int], str]
"""From a setting's number to a few words."""


class _Line(NamedTuple):
    """One setting's learning curve, with its name, and its colour where it is among the best."""

    name: str
    colour: str
    is_best: bool
    curve: Curve


def learning_curves(
    sweep: SweepRecord, summaries: Sequence[SettingSummary], label: Label, most: int = 6
) -> str:
    """IQM and interval of the best settings against environment steps; the others are pale.

    Args:
      sweep: as read.
      summaries: of its settings, the best first.
      label: names a setting.
      most: settings that get a colour and a line in the legend.
    """
    lines = []
    for rank, summary in enumerate(summaries):
        curve = _curve(sweep, summary)
        if curve is not None:
            colour = COLOURS[rank] if rank < most else PALE
            name = f"{rank + 1}: {label(summary.number)}"
            lines.append(_Line(name, colour, rank < most, curve))
    x = make_scale([steps for line in lines for steps in line.curve.env_steps], margin=0.02)
    y = make_scale([score for line in lines for score in _heights(line)])
    # The best are drawn last, and so lie on top.
    paths = [one for line in reversed(lines) for one in _paths(line, x, y)]
    dots = [dot.svg() for line in reversed(lines) for dot in _dots(line, x, y)]
    content = stretched(paths, _HEIGHT) + "".join(dots)
    legend = _legend([(line.colour, line.name) for line in lines if line.is_best])
    labels = ("Environment steps", "Greedy score")
    return plot(content, x, y, labels=labels, height=_HEIGHT) + legend


def _curve(sweep: SweepRecord, summary: SettingSummary) -> Curve | None:
    runs = tuple(read_run(sweep.folder / folder) for folder in summary.folders)
    return score_curve(RunGroup("", runs)) if runs else None


def _heights(line: _Line) -> Iterable[float]:
    """All scores that are drawn: the curve, and its band where it has one."""
    curve = line.curve
    return itertools.chain(curve.value, *((curve.low, curve.high) if line.is_best else ()))


def _paths(line: _Line, x: Scale, y: Scale) -> list[str]:
    curve, width = line.curve, 2 if line.is_best else 1
    points = _points(curve, curve.value, x, y)
    drawn = path([points], stroke=line.colour, width=width, title=line.name)
    if not line.is_best:
        return [drawn]
    band = [*_points(curve, curve.high, x, y), *_points(curve, curve.low, x, y)[::-1]]
    return [path([band], fill=line.colour), drawn]


def _dots(line: _Line, x: Scale, y: Scale) -> list[Dot]:
    """The evaluations of a good setting, and those of which a line alone would show nothing."""
    curve = line.curve
    points = _points(curve, curve.value, x, y)
    if len(points) > (_MOST_DOTS if line.is_best else 1):
        return []
    told = zip(points, curve.value, curve.env_steps, strict=True)
    return [
        Dot(*place, 3, line.colour, f"{line.name}: {score:.4g} after {steps:,.0f} steps")
        for place, score, steps in told
    ]


def _points(
    curve: Curve, heights: Iterable[float], x: Scale, y: Scale
) -> list[tuple[float, float]]:
    pairs = zip(curve.env_steps, heights, strict=True)
    return [(x.share(steps), _HEIGHT * (1 - y.share(height))) for steps, height in pairs]


def _legend(entries: Iterable[tuple[str, str]]) -> str:
    """Coloured names, which wrap as the page needs it."""
    items = "".join(
        f'<li><span class="key" style="background: {colour}"></span>{escape(name)}</li>'
        for colour, name in entries
    )
    return f'<ul class="legend">{items}</ul>'


def cost_against_score(summaries: Sequence[SettingSummary], label: Label) -> str:
    """Every setting's score against its training seconds, and the front that nothing beats.

    Settings are numbered by their ranks. Those of the front are named below the chart.
    """
    known = [(rank, s, s.score.estimate) for rank, s in enumerate(summaries, 1) if s.score]
    seconds = [summary.device_seconds for _, summary, _ in known]
    x = make_scale(seconds, is_logarithmic=is_logarithmic(seconds), margin=0.1)
    y = make_scale([score for _, _, score in known])
    front = {summary.number for summary in pareto_front(summaries)}
    dots: dict[int, Dot] = {}
    # Those of the front come last, to lie on top, and get their numbers first.
    for rank, summary, score in sorted(known, key=lambda one: one[1].number in front):
        radius, colour = (5, COLOURS[1]) if summary.number in front else (3.5, PALE)
        title = f"{rank}: {label(summary.number)}: {score:.4g}, {summary.device_seconds:.3g} s"
        y_pixels = _HEIGHT * (1 - y.share(score))
        dots[rank] = Dot(x.share(summary.device_seconds), y_pixels, radius, colour, title)
    best = sorted((dots[rank] for rank, s, _ in known if s.number in front), key=lambda d: d.share)
    stairs = _stairs(best)
    line = path([stairs], stroke=COLOURS[1], width=1.2)
    drawn = [dot.svg() for dot in dots.values()]
    drawn += [words.svg() for words in _numbers(dots, _blocks(stairs))]
    labels = ("Device seconds of training a run", "Final score (IQM)")
    content = stretched([line], _HEIGHT) + "".join(drawn)
    names = [(COLOURS[1], dot.title) for dot in best]
    return plot(content, x, y, labels=labels, height=_HEIGHT) + _legend(names)


def _stairs(dots: Sequence[Dot]) -> list[tuple[float, float]]:
    """From each dot to the right, then up or down to the next."""
    corners = [(dots[0].share, dots[0].y)]
    for dot in dots[1:]:
        corners += [(dot.share, corners[-1][1]), (dot.share, dot.y)]
    return corners


def _blocks(corners: Sequence[tuple[float, float]]) -> list[Block]:
    """What the stairs cover, piece by piece."""
    pairs = itertools.pairwise(corners)
    return [Block(x1, x2, min(y1, y2), max(y1, y2)) for (x1, y1), (x2, y2) in pairs]


def _numbers(dots: Mapping[int, Dot], blocks: Sequence[Block]) -> list[Words]:
    """The ranks beside the dots, wherever one touches no other number, no dot and no block.

    Args:
      dots: by rank; the last are the first to get a number.
      blocks: what no number shall touch.
    """
    placed: list[Words] = []
    for rank, dot in reversed(list(dots.items())):
        text, near = str(rank), dot.radius + 3
        places = (
            Words(text, dot.share, dot.y - near, "middle"),
            Words(text, dot.share, dot.y + near + 10, "middle"),
            Words(text, dot.share, dot.y + 4, "start", near),
            Words(text, dot.share, dot.y + 4, "end", -near),
            Words(text, dot.share, dot.y - near, "end", -near / 2),
            Words(text, dot.share, dot.y + near + 10, "start", near / 2),
            Words(text, dot.share, dot.y - near, "start", near / 2),
            Words(text, dot.share, dot.y + near + 10, "end", -near / 2),
        )
        for words in places:
            if is_inside(words) and fits(words, [*dots.values(), *placed, *blocks]):
                placed.append(words)
                break
    return placed
