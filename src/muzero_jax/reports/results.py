"""Raw-score files, with a row for each seed of an experiment, and the README's table from them."""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muzero_jax.core.files import write_text
from muzero_jax.reports.extras import import_extra
from muzero_jax.reports.statistics import Interval, stratified_bootstrap


class ResultsError(ValueError):
    """A score file or a page cannot be used; the message is one clear sentence."""


@dataclasses.dataclass(frozen=True)
class SeedResult:
    """One run of one seed: a row of a score file; None where a number is not known.

    `experiments/results/README.md` describes each column, with its unit.
    """

    experiment: str
    seed: int
    env_steps: int
    num_updates: int | None
    episodes: int
    score_mean: float
    score_std: float | None
    score_min: float | None
    score_max: float | None
    train_seconds: float | None
    compile_seconds: float | None
    total_seconds: float | None
    threshold: float | None
    steps_to_threshold: int | None
    device: str
    versions: str
    command: str

    @property
    def command_of_any_seed(self) -> str:
        """The command with the seed left open, equal for all repetitions of an experiment."""
        return self.command.replace(f"--seed {self.seed}", "--seed SEED")

    @property
    def identity(self) -> tuple[str, str, int]:
        """What no two rows of a file share: experiment, device and seed."""
        return self.experiment, self.device, self.seed


COLUMNS = tuple(field.name for field in dataclasses.fields(SeedResult))


@dataclasses.dataclass(frozen=True)
class Summary:
    """All seeds of one experiment on one device.

    Attributes:
      rows: a row for each seed, at least one.
      score: interquartile mean of the seeds' means, with its 95 % interval.
    """

    rows: tuple[SeedResult, ...]
    score: Interval

    def median(self, column: str) -> float | None:
        """The median over the seeds for which the column is known; None where it never is."""
        values = [getattr(row, column) for row in self.rows]
        known = [value for value in values if value is not None]
        return float(np.median(known)) if known else None


def is_score_file(path: Path) -> bool:
    """Whether a CSV holds a score for each seed; other measurements may lie beside such files."""
    header = path.read_text(encoding="utf-8").partition("\n")[0]
    return {"experiment", "seed", "score_mean"} <= set(header.strip().split(","))


def read_scores(path: Path) -> list[SeedResult]:
    """Reads a score file.

    Raises:
      ResultsError: the file is no table, lacks a column, or has a cell that cannot be read.
    """
    try:
        table = _pandas().read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise ResultsError(f"{path} is no table: {error}.") from error
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise ResultsError(f"{path} lacks the columns {', '.join(missing)}.")
    return [_parse_row(path, line, row) for line, row in enumerate(table.to_dict("records"), 2)]


def write_scores(path: Path, rows: Iterable[SeedResult]) -> None:
    """Writes a score file, ordered by experiment, device and seed; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(rows, key=lambda row: row.identity)
    cells = [[_format_cell(getattr(row, name)) for name in COLUMNS] for row in ordered]
    table = _pandas().DataFrame(cells, columns=COLUMNS, dtype=object)
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def update_scores(path: Path, row: SeedResult) -> None:
    """Puts a row into a score file, in place of the row of the same experiment, device and seed."""
    old = read_scores(path) if path.exists() else []
    write_scores(path, [*(other for other in old if other.identity != row.identity), row])


def _pandas() -> types.ModuleType:
    return import_extra("pandas", purpose="Tables of results", package="pandas")


def _parse_row(path: Path, line: int, row: dict[str, str]) -> SeedResult:
    values = {}
    for name, kind in typing.get_type_hints(SeedResult).items():
        try:
            values[name] = _parse_cell(kind, row[name])
        except ValueError as error:
            raise ResultsError(f"{path}, line {line}, {name}: {error}.") from error
    return SeedResult(**values)


def _parse_cell(kind: Any, cell: str) -> Any:
    """Reads a text or a number; an empty cell is None in a column that may be unknown."""
    if isinstance(kind, types.UnionType):
        return typing.get_args(kind)[0](cell) if cell else None
    return kind(cell)


def _format_cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


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


def make_table(results_dir: Path) -> str:
    """Makes the README's table, in Markdown, from every score file of a folder.

    Returns:
      The table and how to read it; an empty text while no scores are recorded.

    Raises:
      ResultsError: there is no such folder, or a score file cannot be used.
    """
    if not results_dir.is_dir():
        raise ResultsError(f"There is no folder {results_dir}.")
    paths = [path for path in sorted(results_dir.glob("*.csv")) if is_score_file(path)]
    summaries = [summary for path in paths for summary in summarise(read_scores(path))]
    if not summaries:
        return ""
    rule = "|" + "|".join(["---", *["---:"] * (len(_TABLE_COLUMNS) - 2), "---"]) + "|"
    rows = [[cell(summary) for cell in _TABLE_COLUMNS.values()] for summary in summaries]
    lines = [table_line(_TABLE_COLUMNS), rule, *map(table_line, rows), "", _explain(summaries)]
    return "\n".join(lines)


def table_line(cells: Iterable[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def replace_table(page: str, table: str, name: str = "results") -> str:
    """Puts a table between the markers of its name in the text of a page.

    Args:
      page: the text of the page.
      table: the table in Markdown.
      name: the name in the markers `<!-- NAME:begin -->` and `<!-- NAME:end -->`.

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


def _format_score(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _format_interval(summary: Summary) -> str:
    estimate, low, high = map(_format_score, dataclasses.astuple(summary.score))
    return f"**{estimate}** [{low}, {high}]"


def _format_seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds >= 3 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds:.0f} s"


def _format_threshold(summary: Summary) -> str:
    """Median steps to the threshold; a seed that never reached it counts as infinitely slow."""
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
