"""The tidy table of a sweep folder: a row for each run, a column for each setting and number."""

import contextlib
import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from muzero_jax.core.dotted import flatten
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.file_names import (
    CONFIG_FILE,
    MEMBERS_FOLDER,
    METRICS_FILE,
    OUTCOME_FILE,
    PARQUET_FILE,
    RESULT_FILE,
    SWEEP_FILE,
    TABLE_FILE,
)
from muzero_jax.core.files import last_json_line, read_json, replacing, write_text
from muzero_jax.core.plain_yaml import read_yaml
from muzero_jax.reports.extras import import_extra

# The columns come in this order: identity, the settings that were varied, then what was measured.
_IDENTITY = ("setting", "seed", "status", "reason", "folder")
_MEASURED = (
    *("score_mean", "score_std", "score_min", "score_max", "length_mean", "episodes"),
    *("last_score_mean", "last_score_std"),
    *("best_score_mean", "best_score_std", "best_env_steps"),
    *("env_steps", "num_updates", "train_seconds", "compile_seconds", "total_seconds"),
    *("runs_at_once", "device"),
)
# The type that each part of a sweep's file must have, and its name in a message.
_KINDS: Mapping[str, tuple[type, str]] = {
    "experiment": (str, "a name"),
    "seeds": (list, "a list of integers"),
    "settings": (list, "a list of NAME: value"),
    "space": (dict, "NAME: values"),
    "changed": (dict, "NAME: value"),
}
LARGEST = 1e100
"""A number that is not smaller cannot have been measured, and could not be drawn."""
STATUSES = ("finished", "failed", "pruned", "unfinished")


class SweepFolderError(ConfigError):
    """A path is not a sweep folder, or a file in it cannot be used; one clear sentence."""


@dataclasses.dataclass(frozen=True)
class SweepRecord:
    """What a sweep folder says.

    Attributes:
      folder: path of the folder.
      experiment: name of the experiment on the command line.
      changed: settings in which all runs of the sweep differ from the experiment, by dotted name.
      varied: dotted names of the settings that differ between runs, in the order of the definition.
      rows: a row for each run that was begun, see `read_member`.
    """

    folder: Path
    experiment: str
    changed: Mapping[str, Any]
    varied: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]


def read_sweep(folder: Path) -> SweepRecord:
    """Reads a sweep folder, whatever state an interrupted sweep left it in.

    Raises:
      SweepFolderError: the folder is not a sweep folder, or a file in it is damaged.
    """
    with usable_sweep_file(folder) as tree:
        settings = [tree.get("space", {}), *tree.get("settings", ())]
        experiment, changed = tree["experiment"], tree.get("changed", {})
    varied = dict.fromkeys(name for setting in settings for name in setting)
    members = sorted(folder.glob(f"{MEMBERS_FOLDER}/setting-*/seed-*/{CONFIG_FILE}"))
    rows = sorted((read_member(path.parent) for path in members), key=_order)
    for row in (row for row in rows if row["status"] == "finished"):
        for name in ("score_mean", "train_seconds"):
            if not math.isfinite(row[name]):
                raise _no_number(folder / row["folder"], name)
    return SweepRecord(folder, experiment, changed, tuple(varied), tuple(rows))


@contextlib.contextmanager
def usable_sweep_file(folder: Path) -> Iterator[dict[str, Any]]:
    """Gives the content of `sweep.yaml`, after a check that each part has the right type.

    A `ConfigError` that the block raises becomes a `SweepFolderError` that names the file.

    Args:
      folder: the sweep's folder.

    Raises:
      SweepFolderError: the folder holds no sweep, or the file cannot be used.
    """
    path = folder / SWEEP_FILE
    if not path.is_file():
        reason = f"it holds no {SWEEP_FILE}" if folder.is_dir() else "there is no such folder"
        raise SweepFolderError(f"{folder} is not a sweep folder: {reason}.")
    try:
        yield _checked(read_yaml(path))
    except ConfigError as error:
        raise SweepFolderError(f"{path} cannot be used: {error}") from error


def _checked(tree: Any) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise ConfigError(f"it must hold NAME: value, found {str(tree)[:80]!r}.")
    if "experiment" not in tree:
        raise ConfigError("experiment is missing.")
    for name, (kind, description) in _KINDS.items():
        if name in tree and not isinstance(tree[name], kind):
            raise ConfigError(f"{name} must be {description}, found {str(tree[name])[:80]!r}.")
    for setting in tree.get("settings", ()):
        if not isinstance(setting, dict):
            raise ConfigError(f"settings must be a list of NAME: value, found {setting!r} in it.")
    named = [*tree.get("settings", ()), tree.get("space", {}), tree.get("changed", {})]
    wrong = [name for part in named for name in part if not isinstance(name, str)]
    if wrong:
        raise ConfigError(f"{wrong[0]!r} is no name of a setting.")
    return tree


def read_member(run_dir: Path) -> dict[str, Any]:
    """Reads the row of one run: its identity, what was measured, its last metrics, its settings.

    `status` is `finished`, `failed`, `pruned` or `unfinished`; `reason` says why. Times are
    wall-clock seconds, which `runs_at_once` runs shared. Scores are those of the final greedy
    evaluation; the columns of the last parameters and of the best agent are empty where
    `result.json` has no such number.

    Args:
      run_dir: the run folder.

    Raises:
      ConfigError: a file of the run is damaged; the message names the file.
    """
    settings = _member_settings(run_dir / CONFIG_FILE)
    outcome = read_json(run_dir / OUTCOME_FILE)
    result = read_json(run_dir / RESULT_FILE)
    metrics = last_json_line(run_dir / METRICS_FILE)
    status = outcome.get("status") or ("finished" if result else "unfinished")
    if status not in STATUSES:
        told = f"there is no status {status!r}"
        raise SweepFolderError(f"{run_dir / OUTCOME_FILE} is damaged: {told}.")
    for name in ("score_mean", "score_std", "train_seconds") if status == "finished" else ():
        value = result.get(name)
        # A score that is not finite ends no sweep, but cannot be reported.
        if not isinstance(value, int | float) or LARGEST <= abs(value) < math.inf:
            raise _no_number(run_dir, name)
    last = {name.removeprefix("time/"): value for name, value in metrics.items()}
    return {
        "setting": _setting_number(run_dir),
        "seed": settings["seed"],
        "status": status,
        "reason": str(outcome.get("reason", "")),
        "folder": "/".join(run_dir.parts[-3:]),
        **{name: value for name, value in (last | result).items() if name in _MEASURED},
        **{name: value for name, value in metrics.items() if "/" in name},
        **{name: value for name, value in settings.items() if name not in ("seed", "name")},
    }


def _no_number(run_dir: Path, name: str) -> SweepFolderError:
    return SweepFolderError(f"{run_dir / RESULT_FILE} is damaged: {name} is no number in it.")


def _member_settings(path: Path) -> dict[str, Any]:
    """The settings of a run by dotted name; one of them is the seed."""
    tree = read_yaml(path)
    settings = flatten(tree) if isinstance(tree, Mapping) else {}
    seed = settings.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise SweepFolderError(f"{path} cannot be used: it holds no settings of a run with a seed.")
    return settings


def _setting_number(run_dir: Path) -> int:
    """The number of a run's setting, from the name of the folder above the run folder."""
    name = run_dir.parent.name
    number = name.partition("-")[2]
    if not (number.isascii() and number.isdecimal()):
        told = f"its folder must be setting-NUMBER, found {name}"
        raise SweepFolderError(f"{run_dir} is no run of a sweep: {told}.")
    return int(number)


def write_table(
    folder: Path, rows: Iterable[Mapping[str, Any]], varied: Iterable[str], *, parquet: bool = False
) -> None:
    """Writes `table.csv` and, on request, `table.parquet`; each file is replaced whole.

    Args:
      folder: the sweep's folder.
      rows: a mapping for each run, see `read_member`.
      varied: names of the settings that the sweep varies; they come first among the settings.
      parquet: whether `table.parquet` is written as well.

    Raises:
      MissingExtraError: `table.csv` was written, but pandas or pyarrow, which Parquet needs, is not
        installed.
    """
    ordered = sorted(rows, key=_order)
    columns = _columns(ordered, varied)
    # A list becomes a text, so that each column of the Parquet file has one type.
    cells = [{k: str(v) if isinstance(v, list) else v for k, v in row.items()} for row in ordered]
    # A sweep must write its table without pandas too, which comes with an extra.
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells)
    write_text(folder / TABLE_FILE, text.getvalue())
    if not parquet:
        return
    pandas = import_extra("pandas", purpose="Parquet tables", package="pandas", extra="sweep")
    import_extra("pyarrow", purpose="Parquet tables", package="pyarrow", extra="sweep")
    with replacing(folder / PARQUET_FILE) as temporary:
        pandas.DataFrame(cells, columns=columns).to_parquet(temporary, index=False)


def _order(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["setting"], row["seed"]


def _columns(rows: list[Mapping[str, Any]], varied: Iterable[str]) -> list[str]:
    first = dict.fromkeys([*_IDENTITY, *varied, *_MEASURED])
    names = dict.fromkeys(name for row in rows for name in row)
    metrics = sorted(name for name in names if "/" in name)
    settings = [name for name in names if name not in first and "/" not in name]
    return [*first, *metrics, *settings]
