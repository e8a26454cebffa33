"""Parallel coordinates of a sweep: a line for each setting through its values to its score.

The axes lie one below the other, so that there is room for any number of them on a narrow page.
Each axis is a band in which its values are written. No line enters a band, so none crosses text.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from muzero_jax.reports import fluid_svg as svg
from muzero_jax.reports.plots import MUTED
from muzero_jax.reports.scales import number_text
from muzero_jax.reports.sweep_summary import SettingSummary, are_numbers, is_logarithmic

_BAND = "#F3F4F7"
_LINE = svg.TEXT_PIXELS + 4
_GAP = 46
_EDGE = 0.03
_MOST_LINES, _FEW = 12, 8
_LONGEST = 24
# Colours of matplotlib's viridis, without its bright end, which can hardly be seen on white.
_COLOURS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (180, 222, 44)])


class _Axis(NamedTuple):
    """One axis.

    Attributes:
      name: text above the values.
      shares: places of the settings across the page.
      words: the values as they are written.
      top: upper edge of the band in pixels from the top of the chart.
      bottom: lower edge of the band.
    """

    name: str
    shares: Sequence[float]
    words: Sequence[svg.Words]
    top: float
    bottom: float


def parallel_coordinates(summaries: Sequence[SettingSummary], varied: Sequence[str]) -> str:
    """Draws the settings that have a score, coloured by it.

    Args:
      summaries: summaries of the settings, the best first.
      varied: dotted names of the settings that get an axis.
    """
    known = [summary for summary in summaries if summary.score]
    columns = {name.rpartition(".")[2]: [one.values[name] for one in known] for name in varied}
    axes: list[_Axis] = []
    for name, values in [*columns.items(), ("score", [one.estimate for one in known])]:
        axes.append(_axis(name, values, axes[-1].bottom + _GAP if axes else 0.0))
    height = axes[-1].bottom
    # The best settings come first, and are drawn last.
    lines = [
        svg.path(
            _pieces(axes, index),
            stroke=_bright(axes[-1].shares[index]),
            width=2.5 if index == 0 else 1.5,
            title=f"{summary.label}: {summary.estimate:.4g}",
        )
        for index, summary in reversed(list(enumerate(known)))
    ]
    bands = [mark for axis in axes for mark in _band(axis)]
    content = [svg.stretched(lines, height), *bands, *_marks(axes)]
    return f'<div class="chart">{svg.canvas(content, height)}</div>'


def _axis(name: str, values: Sequence[Any], top: float) -> _Axis:
    names, shares = _places(values)
    shown = sorted(dict(zip(shares, names, strict=True)).items())
    # Between two numbers a reader can interpolate; every word is written if there is room.
    is_guessed = are_numbers(values) and len(shown) > _FEW
    words = _written(shown, top, most_lines=1 if is_guessed else _MOST_LINES)
    return _Axis(name, shares, words, top, max(one.y for one in words) + 9)


def _places(values: Sequence[Any]) -> tuple[list[str], list[float]]:
    """Values as text, and their places across the page; words are in alphabetical order."""
    if are_numbers(values):
        names = [number_text(value) for value in values]
        numbers = np.log(values) if is_logarithmic(values) else np.asarray(values, float)
    else:
        texts = [str(value) for value in values]
        names = [t if len(t) <= _LONGEST else f"{t[: _LONGEST - 1]}…" for t in texts]
        numbers = np.unique(texts, return_inverse=True)[1].astype(float)
    low, high = numbers.min(), numbers.max()
    shares = (numbers - low) / (high - low) if high > low else np.full(len(numbers), 0.5)
    return names, [float(_EDGE + (1 - 2 * _EDGE) * share) for share in shares]


def _written(values: Sequence[tuple[float, str]], top: float, most_lines: int) -> list[svg.Words]:
    """Writes values into the first line below the name of the axis where they fit.

    Args:
      values: places and texts, from left to right; the first and the last are written first.
      top: upper edge of the band in pixels from the top of the chart.
      most_lines: number of lines; a value that fits into none of them is left out.
    """
    placed: list[svg.Words] = []
    for share, name in dict.fromkeys([values[0], values[-1], *values]):
        places = [svg.Words(name, share, top + _LINE * (line + 2)) for line in range(most_lines)]
        placed += svg.first_fitting(map(svg.kept_inside, places), placed)
    return placed


def _pieces(axes: Sequence[_Axis], index: int) -> list[list[tuple[float, float]]]:
    """One setting's line from the lower edge of each band to the upper edge of the next."""
    return [
        [(upper.shares[index], upper.bottom), (lower.shares[index], lower.top)]
        for upper, lower in itertools.pairwise(axes)
    ]


def _band(axis: _Axis) -> list[str]:
    """The band of an axis with its name and its values."""
    name = svg.Words(axis.name, 0, axis.top + _LINE - 1, "start", 6, is_quiet=True)
    height = axis.bottom - axis.top
    return [
        f'<rect x="0" y="{axis.top:.1f}" width="100%" height="{height:.1f}" fill="{_BAND}"/>',
        *(words.svg() for words in [name, *axis.words]),
    ]


def _marks(axes: Sequence[_Axis]) -> list[str]:
    """Short strokes at the places where lines leave a band or enter the next one."""
    leaving = [(axis, axis.bottom - 4) for axis in axes[:-1]]
    entering = [(axis, axis.top) for axis in axes[1:]]
    return [
        svg.segment((share, y), (share, y + 4), MUTED)
        for axis, y in [*leaving, *entering]
        for share in dict.fromkeys(axis.shares)
    ]


def _bright(share: float) -> str:
    """A colour from dark to bright, for shares from 0 to 1."""
    places = np.linspace(0, 1, len(_COLOURS))
    return "#" + "".join(f"{round(np.interp(share, places, one)):02x}" for one in _COLOURS.T)
