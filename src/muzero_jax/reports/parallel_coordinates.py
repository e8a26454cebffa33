"""Parallel coordinates of a sweep: a line for each setting through its values to its score.

The axes lie one below the other, so that there is room for any number of them on a narrow page.
Each is a band in which its values are written. No line is drawn there, so that none crosses text.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from muzero_jax.reports.fluid_svg import (
    MUTED,
    TEXT_PIXELS,
    Words,
    canvas,
    centred,
    fits,
    path,
    segment,
    stretched,
)
from muzero_jax.reports.scales import number_text
from muzero_jax.reports.sweep_figures import Label
from muzero_jax.reports.sweep_summary import SettingSummary, are_numbers, is_logarithmic

_BAND = "#F3F4F7"
_LINE = TEXT_PIXELS + 4
_GAP = 46
_EDGE = 0.03
_MOST_LINES, _FEW = 12, 8
_LONGEST = 24
# Colours of matplotlib's viridis, without its bright end, which can hardly be seen on white.
_COLOURS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (180, 222, 44))


class _Axis(NamedTuple):
    """One axis.

    Attributes:
      name: what is written above its values.
      shares: where each setting lies on it.
      words: its values as they are written, with baselines below the top of the band.
      height: of the band in pixels.
    """

    name: str
    shares: Sequence[float]
    words: Sequence[Words]
    height: float


def parallel_coordinates(
    summaries: Sequence[SettingSummary], varied: Sequence[str], label: Label
) -> str:
    """Draws the settings that have a score, coloured by it.

    Args:
      summaries: of the settings, the best first.
      varied: dotted names of the settings, an axis for each.
      label: names a setting.
    """
    known = [(summary, summary.score.estimate) for summary in summaries if summary.score]
    columns: dict[str, list[Any]] = {
        name.rpartition(".")[2]: [summary.values[name] for summary, _ in known] for name in varied
    }
    axes = [_axis(name, values) for name, values in columns.items()]
    axes.append(_axis("score", [score for _, score in known]))
    tops = np.cumsum([0.0, *(axis.height + _GAP for axis in axes[:-1])])
    height = float(tops[-1]) + axes[-1].height
    # The best come first, and are drawn last.
    lines = [
        path(
            _pieces(axes, tops, index),
            stroke=_bright(axes[-1].shares[index]),
            width=2.5 if index == 0 else 1.5,
            title=f"{label(summary.number)}: {score:.4g}",
        )
        for index, (summary, score) in reversed(list(enumerate(known)))
    ]
    bands = [mark for axis, top in zip(axes, tops, strict=True) for mark in _band(axis, top)]
    content = [stretched(lines, height), *bands, *_marks(axes, tops)]
    return f'<div class="chart">{canvas(content, height)}</div>'


def _axis(name: str, values: Sequence[Any]) -> _Axis:
    names, shares = _places(values)
    shown = sorted(dict(zip(shares, names, strict=True)).items())
    # Between numbers the eye can guess; every word is written if there is room.
    is_guessed = are_numbers(values) and len(shown) > _FEW
    words = _written(shown, most_lines=1 if is_guessed else _MOST_LINES)
    return _Axis(name, shares, words, max(one.y for one in words) + 9)


def _places(values: Sequence[Any]) -> tuple[list[str], list[float]]:
    """Values as text, and where they lie across the page: words in the order of the alphabet."""
    if are_numbers(values):
        names = [number_text(value) for value in values]
        numbers = np.log(values) if is_logarithmic(values) else np.asarray(values, float)
    else:
        names = [_shortened(str(value)) for value in values]
        order = sorted({str(value) for value in values})
        numbers = np.array([order.index(str(value)) for value in values], float)
    low, high = numbers.min(), numbers.max()
    shares = (numbers - low) / (high - low) if high > low else np.full(len(numbers), 0.5)
    return names, [float(_EDGE + (1 - 2 * _EDGE) * share) for share in shares]


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _written(values: Sequence[tuple[float, str]], most_lines: int) -> list[Words]:
    """Where values are written: in the first line below the name of the axis where one fits.

    Args:
      values: places and texts, from left to right; the first and the last are written first.
      most_lines: lines that there may be; a value that fits into none is left out.
    """
    placed: list[Words] = []
    for share, name in dict.fromkeys([values[0], values[-1], *values]):
        for line in range(most_lines):
            words = centred(name, share, _LINE * (line + 2))
            if fits(words, placed):
                placed.append(words)
                break
    return placed


def _pieces(
    axes: Sequence[_Axis], tops: Iterable[float], index: int
) -> list[list[tuple[float, float]]]:
    """One setting's line from the lower edge of each band to the upper edge of the next."""
    places = list(zip(axes, tops, strict=True))
    return [
        [(upper.shares[index], top + upper.height), (lower.shares[index], next_top)]
        for (upper, top), (lower, next_top) in itertools.pairwise(places)
    ]


def _band(axis: _Axis, top: float) -> list[str]:
    """The band of an axis with its name and its values."""
    name = Words(axis.name, 0, top + _LINE - 1, "start", 6, is_quiet=True)
    written = [words._replace(y=words.y + top) for words in axis.words]
    return [
        f'<rect x="0" y="{top:.1f}" width="100%" height="{axis.height:.1f}" fill="{_BAND}"/>',
        *(words.svg() for words in [name, *written]),
    ]


def _marks(axes: Sequence[_Axis], tops: Iterable[float]) -> Iterator[str]:
    """A short stroke for each value at the edges of its band that lines come from or go to."""
    for number, (axis, top) in enumerate(zip(axes, tops, strict=True)):
        edges = [top] * (number > 0) + [top + axis.height - 4] * (number < len(axes) - 1)
        for share in dict.fromkeys(axis.shares):
            yield from (segment((share, y), (share, y + 4), MUTED) for y in edges)


def _bright(share: float) -> str:
    """A colour from dark to bright, for shares from 0 to 1."""
    place = min(max(share, 0.0), 1.0) * (len(_COLOURS) - 1)
    index = min(int(place), len(_COLOURS) - 2)
    rest = place - index
    pairs = zip(_COLOURS[index], _COLOURS[index + 1], strict=True)
    return "#" + "".join(f"{round(low + rest * (high - low)):02x}" for low, high in pairs)
