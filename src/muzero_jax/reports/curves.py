"""From the tables of runs to curves with a band: one run's episodes, or repetitions over seeds."""

import dataclasses

import numpy as np

from muzero_jax.reports.runs import RunGroup, RunRecord, Table, has_values
from muzero_jax.reports.statistics import stratified_bootstrap


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line and the band around it, `[N]` each.

    Attributes:
      env_steps: environment steps, ascending.
      seconds: training seconds at those steps, the median over runs; NaN where unknown.
      value: the line.
      low: lower edge of the band.
      high: upper edge of the band.
    """

    env_steps: np.ndarray
    seconds: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def score_curve(group: RunGroup) -> Curve | None:
    """Greedy evaluation score against environment steps; None where nothing was evaluated.

    For one run the line is the mean over the episodes, with a band of one standard deviation that
    never leaves the range of the episodes. For several runs it is the interquartile mean of the
    runs' means with its 95 % bootstrap interval, wherever at least half of the runs have got to.
    """
    runs = [run for run in group.runs if has_values(run.evaluation, "score_mean")]
    if not runs:
        return None
    return _episode_curve(runs[0].evaluation) if len(runs) == 1 else _seed_curve(runs)


def return_curve(group: RunGroup) -> Curve | None:
    """Return of the training episodes, the mean over runs, without a band; None where unknown."""
    runs = [run for run in group.runs if has_values(run.metrics, "episode/return")]
    if not runs:
        return None
    grid, values = _align([(run.metrics, "episode/return") for run in runs])
    value = np.nanmean(values, axis=0)
    return Curve(grid, _seconds([run.metrics for run in runs], grid), value, value, value)


def _episode_curve(evaluation: Table) -> Curve:
    mean = evaluation["score_mean"]
    unknown = np.full_like(mean, np.nan)
    std = np.nan_to_num(evaluation.get("score_std", unknown))
    return Curve(
        env_steps=evaluation["env_steps"],
        seconds=_seconds([evaluation], evaluation["env_steps"]),
        value=mean,
        low=np.fmax(mean - std, evaluation.get("score_min", unknown)),
        high=np.fmin(mean + std, evaluation.get("score_max", unknown)),
    )


def _seed_curve(runs: list[RunRecord]) -> Curve:
    grid, values = _align([(run.evaluation, "score_mean") for run in runs])
    intervals = [
        stratified_bootstrap([column[np.isfinite(column)]], num_resamples=2_000)
        for column in values.T
    ]
    return Curve(
        env_steps=grid,
        seconds=_seconds([run.evaluation for run in runs], grid),
        value=np.array([interval.estimate for interval in intervals]),
        low=np.array([interval.low for interval in intervals]),
        high=np.array([interval.high for interval in intervals]),
    )


def _align(columns: list[tuple[Table, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Puts the named columns on one grid of environment steps.

    Returns:
      `[N]` the steps that at least half of the tables have got to, and `[num_tables, N]` the values
      there, linear between a table's own rows and NaN outside of them.
    """
    pairs = []
    for table, name in columns:
        known = np.isfinite(table[name])
        pairs.append((table["env_steps"][known], table[name][known]))
    grid = np.unique(np.concatenate([steps for steps, _ in pairs]))
    values = np.array([_interpolate(grid, steps, value) for steps, value in pairs])
    enough = 2 * np.isfinite(values).sum(axis=0) >= len(pairs)
    return grid[enough], values[:, enough]


def _seconds(tables: list[Table], grid: np.ndarray) -> np.ndarray:
    """Median over the tables of the training seconds at the steps of the grid, `[N]`."""
    per_table = []
    for table in tables:
        for name in ("train_seconds", "time/train_seconds"):
            if name in table:
                known = np.isfinite(table[name])
                steps, seconds = table["env_steps"][known], table[name][known]
                per_table.append(_interpolate(grid, steps, seconds))
    if not per_table:
        return np.full(grid.shape, np.nan)
    stacked = np.array(per_table)
    known_anywhere = np.isfinite(stacked).any(axis=0)
    median = np.full(grid.shape, np.nan)
    median[known_anywhere] = np.nanmedian(stacked[:, known_anywhere], axis=0)
    return median


def _interpolate(grid: np.ndarray, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    if not steps.size:
        return np.full(grid.shape, np.nan)
    return np.interp(grid, steps, values, left=np.nan, right=np.nan)
