"""The charts of a sweep's report that have a row for each thing: seeds, and effects of settings.

A row is text of the page, which wraps, over a strip of dots with an interval.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from muzero_jax.core.dotted import short_value
from muzero_jax.reports.fluid_svg import (
    GRID,
    PALE,
    TEXT_PIXELS,
    Dot,
    canvas,
    segment,
    ticks_below,
)
from muzero_jax.reports.plots import COLOURS
from muzero_jax.reports.scales import Scale, make_scale
from muzero_jax.reports.statistics import Interval
from muzero_jax.reports.sweep_figures import Label
from muzero_jax.reports.sweep_summary import SettingSummary, effects
from muzero_jax.reports.sweep_table import SweepRecord

_STRIP = 18

ROW_STYLE = f"""
.row {{ margin-top: 6px; }}
.row p {{ display: flex; flex-wrap: wrap; gap: 0 12px; justify-content: space-between; margin: 0;
  font-size: {TEXT_PIXELS + 1}px; line-height: 1.3; max-width: none; color: var(--ink); }}
.row p span {{ overflow-wrap: anywhere; min-width: 0; }}
.row p .quiet {{ color: var(--muted); }}
"""


class _Row(NamedTuple):
    label: str
    score: Interval
    scores: Sequence[float]


def seed_scatter(summaries: Sequence[SettingSummary], label: Label, most: int = 10) -> str:
    """Final scores of every seed, setting by setting, the best first.

    Args:
      summaries: of the settings, the best first.
      label: names a setting.
      most: settings that are shown.
    """
    known = [(rank, s, s.score) for rank, s in enumerate(summaries, 1) if s.score][:most]
    return _rows([_Row(f"{rank}: {label(s.number)}", score, s.scores) for rank, s, score in known])


def marginal_effect(sweep: SweepRecord, name: str) -> str:
    """Scores of all finished runs by the value of one setting, and their IQM with its interval.

    Args:
      sweep: as read.
      name: of the setting.
    """
    found = effects(sweep, name)
    return _rows([_Row(short_value(one.value), one.score, one.scores) for one in found])


def _rows(rows: Sequence[_Row]) -> str:
    scale = make_scale([x for r in rows for x in (*r.scores, r.score.low, r.score.high)])
    axis = canvas([words.svg() for words in ticks_below(scale, 14)], 16)
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
        f"{canvas(_strip(row, scale), _STRIP)}</div>"
    )


def _strip(row: _Row, scale: Scale) -> list[str]:
    """The marks of a row: round numbers, one dot for each run, the interval and its estimate."""
    middle = _STRIP / 2
    marks = [segment((scale.share(t), 0), (scale.share(t), _STRIP), GRID) for t in scale.ticks()]
    marks += [
        Dot(scale.share(score), middle, 3.5, PALE, f"{row.label}: {score:.4g}").svg()
        for score in row.scores
        if math.isfinite(score)
    ]
    low, estimate, high = map(scale.share, (row.score.low, row.score.estimate, row.score.high))
    marks.append(segment((low, middle), (high, middle), COLOURS[0], 2))
    marks.append(segment((estimate, 2), (estimate, _STRIP - 2), COLOURS[0], 3))
    return marks
