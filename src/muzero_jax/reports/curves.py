"""From the tables of runs to curves with a band, over a run's episodes or over seeds."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from muzero_jax.reports.runs import RunRecord, Table, has_values
from muzero_jax.reports.statistics import bootstrap_interval


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line and the band around it.

    Attributes:
      env_steps: `[N]` environment steps, ascending.
      seconds: `[N]` training seconds at those steps, the median over runs; NaN where unknown.
      value: `[N]` the line.
      low: `[N]` lower edge of the band.
      high: `[N]` upper edge of the band.
    """

    env_steps: np.ndarray
    seconds: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def score_curve(runs: Sequence[RunRecord]) -> Curve | None:
    """Greedy score of repetitions against environment steps; None where nothing was evaluated.

    For one run the line is the mean over the episodes, and the band is one standard deviation, cut
    off at the range of the episodes. For several runs the line is the interquartile mean of the
    runs' means and the band its 95 % bootstrap interval, at steps that at least half of the runs
    have reached.
    """
    tables = [run.evaluation for run in runs if has_values(run.evaluation, "score_mean")]
    if not tables:
        return None
    return _episode_curve(tables[0]) if len(tables) == 1 else _seed_curve(tables)


def return_curve(runs: Sequence[RunRecord]) -> Curve | None:
    """Return of the training episodes, the mean over runs, without a band; None where unknown."""
    tables = [run.metrics for run in runs if has_values(run.metrics, "episode/return")]
    if not tables:
        return None
    grid, values = _align(tables, "episode/return")
    value = np.nanmean(values, axis=0)
    return Curve(grid, _seconds(tables, grid), value, value, value)


def _episode_curve(evaluation: Table) -> Curve:
    mean, grid = evaluation["score_mean"], evaluation["env_steps"]
    unknown = np.full_like(mean, np.nan)
    std = np.nan_to_num(evaluation.get("score_std", unknown))
    return Curve(
        env_steps=grid,
        seconds=_seconds([evaluation], grid),
        value=mean,
        low=np.fmax(mean - std, evaluation.get("score_min", unknown)),
        high=np.fmin(mean + std, evaluation.get("score_max", unknown)),
    )


def _seed_curve(tables: Sequence[Table]) -> Curve:
    grid, values = _align(tables, "score_mean")
    columns = [column[np.isfinite(column)] for column in values.T]
    found = [bootstrap_interval(column, num_resamples=2_000) for column in columns]
    return Curve(grid, _seconds(tables, grid), *np.array(found).T)


def _align(tables: Sequence[Table], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Puts a column of each table on one grid of environment steps.

    Returns:
      `[N]` the steps that at least half of the tables have reached, and `[num_tables, N]` the
      values there: linear between a table's own rows, and NaN outside of them.
    """
    steps = [table["env_steps"][np.isfinite(table[name])] for table in tables]
    grid = np.unique(np.concatenate(steps))
    values = np.array([_on_grid(grid, table, name) for table in tables])
    enough = 2 * np.isfinite(values).sum(axis=0) >= len(tables)
    return grid[enough], values[:, enough]


def _seconds(tables: Sequence[Table], grid: np.ndarray) -> np.ndarray:
    """Median over the tables of the training seconds at the steps of the grid, `[N]`."""
    names = ("train_seconds", "time/train_seconds")
    known = [_on_grid(grid, table, name) for table in tables for name in names if name in table]
    stacked = np.array([np.full(grid.shape, np.nan), *known])
    return np.ma.median(np.ma.masked_invalid(stacked), axis=0).filled(np.nan)


def _on_grid(grid: np.ndarray, table: Table, name: str) -> np.ndarray:
    """A column at the steps of a grid, `[N]`; NaN where the column has no finite values around."""
    known = np.isfinite(table[name])
    steps, values = table["env_steps"][known], table[name][known]
    if not steps.size:
        return np.full(grid.shape, np.nan)
    return np.interp(grid, steps, values, left=np.nan, right=np.nan)
