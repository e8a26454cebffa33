"""What a sweep's table says: scores by setting, the effect of each setting, the best trade-offs."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from muzero_jax.core.dotted import describe_setting
from muzero_jax.reports.statistics import Interval, bootstrap_interval
from muzero_jax.reports.sweep_table import SweepRecord


@dataclasses.dataclass(frozen=True)
class SettingSummary:
    """The runs of one setting.

    Attributes:
      number: number of the setting.
      values: values of the settings that were varied, by dotted name.
      scores: scores of the finished runs.
      score: interquartile mean of the scores with its 95 % interval; None where no run is finished.
      device_seconds: training seconds of a finished run, the mean over runs; runs that shared a
        program share its seconds. NaN where no run is finished.
      folders: folders of the runs that have something to show.
      statuses: status of each run.
    """

    number: int
    values: Mapping[str, Any]
    scores: tuple[float, ...]
    score: Interval | None
    device_seconds: float
    folders: tuple[str, ...]
    statuses: tuple[str, ...]

    @property
    def label(self) -> str:
        """The values in a few words."""
        return describe_setting(self.values)

    @property
    def estimate(self) -> float:
        """The interquartile mean of the scores; minus infinity where no run is finished."""
        return self.score.estimate if self.score else -np.inf


class Effect(NamedTuple):
    """What the finished runs with one value of a setting scored, whatever else they differed in."""

    value: Any
    scores: tuple[float, ...]
    score: Interval


def summarise_settings(sweep: SweepRecord) -> list[SettingSummary]:
    """The settings of a sweep: the best first, and settings without a finished run last."""
    rows: dict[int, list[Mapping[str, Any]]] = {}
    for row in sweep.rows:
        rows.setdefault(row["setting"], []).append(row)
    found = [_summarise(number, group, sweep.varied) for number, group in rows.items()]
    return sorted(found, key=lambda summary: -summary.estimate)


def device_seconds(row: Mapping[str, Any]) -> float:
    """Training seconds of a run, which shares the seconds of its program with other runs."""
    return row.get("train_seconds", 0) / row.get("runs_at_once", 1)


def _summarise(
    number: int, rows: Sequence[Mapping[str, Any]], varied: Iterable[str]
) -> SettingSummary:
    finished = [row for row in rows if row["status"] == "finished"]
    scores = tuple(float(row["score_mean"]) for row in finished)
    return SettingSummary(
        number=number,
        values={name: rows[0].get(name) for name in varied},
        scores=scores,
        score=bootstrap_interval(scores) if scores else None,
        device_seconds=float(np.mean(list(map(device_seconds, finished)))) if scores else np.nan,
        folders=tuple(row["folder"] for row in rows if "env_steps" in row),
        statuses=tuple(row["status"] for row in rows),
    )


def effects(sweep: SweepRecord, name: str, most: int = 8) -> list[Effect]:
    """The marginal effect of one setting on the final score, by ascending value.

    Args:
      sweep: the sweep.
      name: dotted name of the setting.
      most: number of effects; where a number takes more values, neighbouring values become one
        group under their median.
    """
    runs = [
        (row[name], float(row["score_mean"])) for row in sweep.rows if row["status"] == "finished"
    ]
    is_number = are_numbers([value for value, _ in runs])
    runs.sort(key=lambda run: run[0] if is_number else str(run[0]))
    groups = [list(group) for _, group in itertools.groupby(runs, key=lambda run: str(run[0]))]
    if is_number and len(groups) > most:
        chunks = np.array_split(np.arange(len(runs)), most)
        groups = [[runs[index] for index in chunk] for chunk in chunks]
    found = []
    for group in groups:
        values, scores = zip(*group, strict=True)
        value = float(np.median(values)) if is_number else values[0]
        found.append(Effect(value, scores, bootstrap_interval(scores)))
    return found


def pareto_front(summaries: Sequence[SettingSummary]) -> list[SettingSummary]:
    """The settings that no other beats in both score and seconds, the cheapest first."""
    front: list[SettingSummary] = []
    known = [summary for summary in summaries if summary.score is not None]
    for summary in sorted(known, key=lambda s: (s.device_seconds, -s.estimate)):
        if not front or summary.estimate > front[-1].estimate:
            front.append(summary)
    return front


def is_logarithmic(values: Sequence[Any]) -> bool:
    """Whether values are numbers that are better compared by their ratios."""
    is_positive = are_numbers(values) and min(values, default=0) > 0
    return is_positive and max(values) / min(values) >= 8


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all values are numbers, so that they can be ordered and placed on an axis."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
