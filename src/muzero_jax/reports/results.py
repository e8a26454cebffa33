"""The table of results that the README shows, made from the raw-score files."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from muzero_jax.reports.score_files import (
    ResultsError,
    SeedResult,
    is_score_file,
    read_scores,
)
from muzero_jax.reports.statistics import Interval, stratified_bootstrap


@dataclasses.dataclass(frozen=True)
class Summary:
    """All seeds of one experiment on one device.

    Attributes:
      rows: the seeds, at least one.
      score: interquartile mean of the seeds' means, with its 95 % interval.
    """

    rows: tuple[SeedResult, ...]
    score: Interval

    def median(self, column: str) -> float | None:
        """The median over the seeds for which the column is known; None where it never is."""
        values = [getattr(row, column) for row in self.rows]
        known = [value for value in values if value is not None]
        return float(np.median(known)) if known else None


def summarise(rows: Sequence[SeedResult]) -> list[Summary]:
    """Puts the seeds of each experiment on each device together, in order of appearance.

    Raises:
      ResultsError: rows that are put together are not repetitions of the same run, or a seed
        comes twice.
    """
    groups: dict[tuple[str, str], list[SeedResult]] = {}
    for row in rows:
        groups.setdefault((row.experiment, row.device), []).append(row)
    for (experiment, _), members in groups.items():
        _require_repetitions(experiment, members)
    return [
        Summary(tuple(members), stratified_bootstrap([[row.score_mean for row in members]]))
        for members in groups.values()
    ]


def make_table(results_dir: Path) -> str:
    """Makes the README's table, in Markdown, from every score file of a folder.

    Returns:
      The table and how to read it; nothing while no scores are recorded.

    Raises:
      ResultsError: there is no such folder, or a score file cannot be used.
    """
    if not results_dir.is_dir():
        raise ResultsError(f"There is no folder {results_dir}.")
    paths = [path for path in sorted(results_dir.glob("*.csv")) if is_score_file(path)]
    summaries = [summary for path in paths for summary in summarise(read_scores(path))]
    if not summaries:
        return ""
    header = "| " + " | ".join(_TABLE_COLUMNS) + " |"
    rule = "|" + "|".join(["---", *["---:"] * (len(_TABLE_COLUMNS) - 2), "---"]) + "|"
    cells = [[cell(summary) for cell in _TABLE_COLUMNS.values()] for summary in summaries]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([header, rule, *lines, "", _explain(summaries)])


def replace_table(page: str, table: str, name: str = "results") -> str:
    """Puts the table between the markers of that name in the text of a page.

    Raises:
      ResultsError: the markers are missing, doubled or in the wrong order.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    parts = page.split(begin)
    rest = parts[-1].split(end)
    if len(parts) != 2 or len(rest) != 2:
        raise ResultsError(f"The page needs {begin} and, after it, {end}, once each.")
    body = f"\n{table}\n" if table else "\n"
    return f"{parts[0]}{begin}{body}{end}{rest[1]}"


def _require_repetitions(experiment: str, rows: Sequence[SeedResult]) -> None:
    for column in ("env_steps", "episodes", "threshold", "command_of_any_seed"):
        values = list(dict.fromkeys(getattr(row, column) for row in rows))
        if len(values) > 1:
            raise ResultsError(
                f"The rows of {experiment} differ in {column} ({values[0]} and {values[1]}), so "
                "they are not repetitions of one run."
            )
    seeds = [row.seed for row in rows]
    if len(set(seeds)) < len(seeds):
        raise ResultsError(f"A seed of {experiment} comes twice: {sorted(seeds)}.")


def _format_score(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _format_interval(summary: Summary) -> str:
    score = summary.score
    low, high = _format_score(score.low), _format_score(score.high)
    return f"**{_format_score(score.estimate)}** [{low}, {high}]"


def _format_seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds >= 3 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds:.0f} s"


def _format_threshold(summary: Summary) -> str:
    """Median steps to the threshold, with a seed that never got there taking for ever."""
    threshold = summary.rows[0].threshold
    if threshold is None:
        return "-"
    steps = [row.steps_to_threshold for row in summary.rows]
    num_reached = sum(step is not None for step in steps)
    median = np.median([np.inf if step is None else step for step in steps])
    shown = f"{median:,.0f}" if np.isfinite(median) else "not reached"
    return f"{shown} (to {threshold:g}, {num_reached} of {len(steps)})"


_TABLE_COLUMNS: dict[str, Callable[[Summary], str]] = {
    "Experiment": lambda summary: summary.rows[0].experiment,
    "Seeds": lambda summary: str(len(summary.rows)),
    "Env steps": lambda summary: f"{summary.rows[0].env_steps:,}",
    "Score, IQM [95 %]": _format_interval,
    "Worst seed": lambda summary: _format_score(min(row.score_mean for row in summary.rows)),
    "Steps to threshold": _format_threshold,
    "Wall-clock": lambda summary: _format_seconds(summary.median("total_seconds")),
    "Compile": lambda summary: _format_seconds(summary.median("compile_seconds")),
    "Device": lambda summary: summary.rows[0].device,
}


def _explain(summaries: Sequence[Summary]) -> str:
    """How to read the table, and the commands that repeat its rows."""
    episodes = sorted({summary.rows[0].episodes for summary in summaries})
    commands = dict.fromkeys(f"`{summary.rows[0].command_of_any_seed}`" for summary in summaries)
    return (
        f"A seed's score is its greedy mean over {' or '.join(map(str, episodes))} complete "
        "episodes after training; IQM is the interquartile mean over seeds, with a 95 % bootstrap "
        "interval. Wall-clock is the median over seeds of the whole process, which compiles "
        "everything anew, without a cache. Steps to threshold are the median over seeds of the "
        f"first evaluation at the threshold. Commands: {', '.join(commands)}."
    )
