"""Raw-score files: one row for each seed of an experiment.

`experiments/results/README.md` describes the columns for people.
"""

import csv
import dataclasses
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class ResultsError(ValueError):
    """A score file or the README cannot be used; one clear sentence."""


@dataclasses.dataclass(frozen=True)
class SeedResult:
    """One run of one seed: a row of a score file; None where a number is not known.

    Attributes:
      experiment: what the row is called in the table.
      seed: the run's seed.
      env_steps: environment steps of the whole run.
      num_updates: optimiser steps of the whole run.
      episodes: complete greedy episodes of the final evaluation.
      score_mean: their mean undiscounted return.
      score_std: their standard deviation.
      score_min: the lowest of them.
      score_max: the highest of them.
      train_seconds: wall-clock spent in compiled training calls, compilation apart.
      compile_seconds: wall-clock spent compiling.
      total_seconds: wall-clock of the whole process, from start to exit.
      threshold: the score that `steps_to_threshold` asks for.
      steps_to_threshold: environment steps at the first evaluation that reached it; None if none.
      device: what it ran on.
      versions: of Python and the main packages.
      command: that repeats the run.
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


COLUMNS = tuple(field.name for field in dataclasses.fields(SeedResult))


def is_score_file(path: Path) -> bool:
    """Whether a CSV holds a score for each seed; other measurements may lie beside such files."""
    with path.open(newline="", encoding="utf-8") as file:
        header = next(csv.reader(file), [])
    return {"experiment", "seed", "score_mean"} <= set(header)


def read_scores(path: Path) -> list[SeedResult]:
    """Reads a score file.

    Raises:
      ResultsError: a column is missing, or a cell cannot be read.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ResultsError(f"{path} lacks the columns {', '.join(missing)}.")
        return [_parse_row(path, reader.line_num, row) for row in reader]


def write_scores(path: Path, rows: Iterable[SeedResult]) -> None:
    """Writes a score file, ordered by experiment, device and seed; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(rows, key=lambda row: (row.experiment, row.device, row.seed))
    # Hours of runs are not lost to an interruption: the old file stands until the new is whole.
    temporary = path.with_suffix(".csv.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _format_cell(v) for k, v in vars(row).items()} for row in ordered)
    temporary.replace(path)


def update_scores(path: Path, row: SeedResult) -> None:
    """Puts a row into a score file, in place of one of the same experiment, device and seed."""
    old = read_scores(path) if path.exists() else []
    kept = [other for other in old if _identity(other) != _identity(row)]
    write_scores(path, [*kept, row])


def _identity(row: SeedResult) -> tuple[str, str, int]:
    return row.experiment, row.device, row.seed


def _parse_row(path: Path, line: int, row: dict[str, Any]) -> SeedResult:
    values = {}
    for name, kind in typing.get_type_hints(SeedResult).items():
        try:
            values[name] = _parse_cell(kind, row[name] or "")
        except ValueError as error:
            raise ResultsError(f"{path}, line {line}, {name}: {error}.") from error
    return SeedResult(**values)


def _parse_cell(kind: Any, cell: str) -> Any:
    """Reads a cell as a text, a number, or, where it may be empty, None."""
    if kind is str:
        return cell
    may_be_empty = isinstance(kind, types.UnionType)
    if may_be_empty and not cell:
        return None
    return (typing.get_args(kind)[0] if may_be_empty else kind)(cell)


def _format_cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
