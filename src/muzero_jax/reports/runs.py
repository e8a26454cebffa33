"""Reading run folders, whatever state an interrupted run left them in."""

import csv
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from muzero_jax.core.dotted import flatten
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.file_names import CONFIG_FILE, EVALUATION_FILE, METRICS_FILE
from muzero_jax.core.plain_yaml import read_yaml

# Columns by name, `[num_rows]` float64 each, NaN where a row has no such value.
Table: TypeAlias = dict[str, np.ndarray]

# Settings that do not decide the learning curve: runs that differ in nothing else are repetitions.
_NOT_DECISIVE = ("seed", "logging.")


class RunFolderError(ConfigError):
    """A path is not a run folder, or has nothing that was asked for; one clear sentence."""


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What one run folder says.

    Attributes:
      path: the folder.
      experiment: the experiment's name, the folder's name where the configuration is missing.
      settings: the whole configuration by dotted name; empty where it is missing.
      evaluation: the rows of `evaluation.csv`, ordered by `env_steps`; empty where it is missing.
      metrics: the rows of `metrics.jsonl`, likewise.
    """

    path: Path
    experiment: str
    settings: Mapping[str, Any]
    evaluation: Table
    metrics: Table

    @property
    def seed(self) -> int | None:
        """The run's seed, None where the configuration is missing."""
        return self.settings.get("seed")

    @property
    def decisive_settings(self) -> dict[str, Any]:
        """The settings that repetitions of the run share; the folder's path where unknown."""
        known = {k: v for k, v in self.settings.items() if not k.startswith(_NOT_DECISIVE)}
        return known or {"path": str(self.path)}


@dataclasses.dataclass(frozen=True)
class RunGroup:
    """Runs that differ in their seeds only.

    Attributes:
      label: the experiment's name, with the settings in which it differs from others of that name.
      runs: at least one.
    """

    label: str
    runs: tuple[RunRecord, ...]


def has_values(table: Table, name: str) -> bool:
    """Whether the table has a finite value in the column `name`."""
    return name in table and bool(np.isfinite(table[name]).any())


def read_run(run_dir: Path) -> RunRecord:
    """Reads a run folder; missing files give empty tables and torn lines are left out.

    Raises:
      RunFolderError: there is no such folder.
    """
    if not run_dir.is_dir():
        raise RunFolderError(f"There is no run folder {str(run_dir)!r}.")
    settings = flatten(_read_yaml(run_dir / CONFIG_FILE))
    return RunRecord(
        path=run_dir,
        experiment=str(settings.get("name", run_dir.resolve().name)),
        settings=settings,
        evaluation=_table(_read_csv(run_dir / EVALUATION_FILE)),
        metrics=_table(_read_jsonl(run_dir / METRICS_FILE)),
    )


def group_runs(runs: Sequence[RunRecord]) -> list[RunGroup]:
    """Puts repetitions together, in the order in which each kind of run first appears."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        key = json.dumps(run.decisive_settings, sort_keys=True, default=str)
        groups.setdefault(key, []).append(run)
    labels = _labels([members[0] for members in groups.values()])
    return [RunGroup(*pair) for pair in zip(labels, map(tuple, groups.values()), strict=True)]


def _labels(kinds: Sequence[RunRecord], most: int = 3) -> list[str]:
    """Names each kind of run, with up to `most` of the settings that tell it from its namesakes."""
    labels = []
    for kind in kinds:
        namesakes = [other for other in kinds if other.experiment == kind.experiment]
        settings = {k: v for k, v in kind.decisive_settings.items() if k != "path"}
        differing = [
            f"{name.rpartition('.')[2]}={value}"
            for name, value in settings.items()
            if any(other.settings.get(name) != value for other in namesakes)
        ]
        shown = ", ".join(differing[:most]) + (", ..." if len(differing) > most else "")
        labels.append(f"{kind.experiment} ({shown})" if shown else kind.experiment)
    return labels


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        content = read_yaml(path)
    except ConfigError:
        return {}  # Missing or damaged: the curves of the run can be drawn without it.
    return content if isinstance(content, Mapping) else {}


def _read_csv(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        # A row with too few cells is the torn end of a file that was being written.
        return [row for row in csv.DictReader(file) if None not in row.values()]


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = map(_parse_object, path.read_text(encoding="utf-8", errors="replace").splitlines())
    return [row for row in rows if row]


def _parse_object(line: str) -> dict[str, Any]:
    """A line of a JSONL file; empty where it is torn or no object.

    Args:
      line: the text of the line.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Turns rows with `env_steps` into columns of numbers, ordered by it.

    Of rows with one number of steps each adds its names, and the last to have a name counts.
    """
    numbers = [{name: _number(value) for name, value in row.items()} for row in rows]
    known = [row for row in numbers if math.isfinite(row.get("env_steps", math.nan))]
    by_step: dict[float, dict[str, float]] = {}
    for row in known:
        by_step.setdefault(row["env_steps"], {}).update(row)
    kept = [by_step[step] for step in sorted(by_step)]
    names = dict.fromkeys(name for row in kept for name in row)
    return {name: np.array([row.get(name, math.nan) for row in kept]) for name in names}


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
