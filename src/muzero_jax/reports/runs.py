"""Reading run folders, whatever state an interrupted run left them in."""

import contextlib
import csv
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from muzero_jax.core.dotted import describe_setting, flatten
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.file_names import CONFIG_FILE, EVALUATION_FILE, METRICS_FILE
from muzero_jax.core.plain_yaml import read_yaml
from muzero_jax.reports.sweep_table import LARGEST

Table: TypeAlias = dict[str, np.ndarray]
"""Columns by name, `[num_rows]` float64 each; NaN marks a row without such a value."""

# Settings that do not decide the learning curve: runs that differ in nothing else are repetitions.
_NOT_DECISIVE = ("seed", "logging.")


class RunFolderError(ConfigError):
    """A path is not a run folder, or has nothing that was asked for; one clear sentence."""


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What one run folder says.

    Attributes:
      path: the folder.
      experiment: the experiment's name; the folder's name where the configuration is missing.
      settings: the whole configuration by dotted name; empty where the configuration is missing.
      evaluation: rows of `evaluation.csv`, ordered by `env_steps`; empty where there is no file.
      metrics: rows of `metrics.jsonl`, ordered by `env_steps`; empty where there is no file.
    """

    path: Path
    experiment: str
    settings: Mapping[str, Any]
    evaluation: Table
    metrics: Table

    @property
    def seed(self) -> int | None:
        """The run's seed; None where the configuration is missing."""
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
      label: the experiment's name, with the settings that tell the group from its namesakes.
      runs: at least one run.
    """

    label: str
    runs: tuple[RunRecord, ...]


def has_values(table: Table, name: str) -> bool:
    """Whether the table has a finite value in the column `name`."""
    return name in table and bool(np.isfinite(table[name]).any())


def read_run(run_dir: Path) -> RunRecord:
    """Reads a run folder; a missing file gives an empty table, and torn lines are left out.

    Raises:
      RunFolderError: there is no such folder.
    """
    if not run_dir.is_dir():
        raise RunFolderError(f"There is no run folder {str(run_dir)!r}.")
    settings: dict[str, Any] = {}
    # The curves of a run can be drawn without its configuration.
    with contextlib.suppress(ConfigError):
        tree = read_yaml(run_dir / CONFIG_FILE)
        settings = tree if isinstance(tree, dict) else {}
    settings = flatten(settings)
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
    kinds = [members[0] for members in groups.values()]
    return [RunGroup(_label(m[0], kinds), tuple(m)) for m in groups.values()]


def _label(kind: RunRecord, kinds: Iterable[RunRecord], most: int = 3) -> str:
    """Names a kind of run, with up to `most` settings in which it differs from its namesakes."""
    namesakes = [other for other in kinds if other.experiment == kind.experiment]
    differing = [
        (name, value)
        for name, value in kind.decisive_settings.items()
        if name != "path" and any(other.settings.get(name) != value for other in namesakes)
    ]
    shown = describe_setting(dict(differing[:most])) + (", ..." if len(differing) > most else "")
    return f"{kind.experiment} ({shown})" if differing else kind.experiment


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _read_csv(path: Path) -> list[dict[str, Any]]:
    # A row with too few cells was torn by the end of the process that wrote it. pandas would fill
    # such a row up, so that it could not be told from a row with empty cells.
    return [row for row in csv.DictReader(_lines(path)) if None not in row.values()]


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in _lines(path):
        with contextlib.suppress(ValueError, RecursionError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]


def _table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Turns rows into columns of numbers, ordered by `env_steps`; rows without it are left out.

    Rows with the same `env_steps` become one row, in which a later value replaces an earlier one.
    """
    by_step: dict[float, dict[str, float]] = {}
    for row in rows:
        numbers = {name: _number(value) for name, value in row.items()}
        if math.isfinite(step := numbers.get("env_steps", math.nan)):
            by_step.setdefault(step, {}).update(numbers)
    kept = [by_step[step] for step in sorted(by_step)]
    names = dict.fromkeys(name for row in kept for name in row)
    return {name: np.array([row.get(name, math.nan) for row in kept]) for name in names}


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if abs(number) < LARGEST else math.nan
