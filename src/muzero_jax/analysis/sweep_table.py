"""The tidy table of a sweep folder: a row for each run, a column for each setting and number."""

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from muzero_jax.analysis.extras import import_extra
from muzero_jax.dotted import flatten
from muzero_jax.errors import ConfigError
from muzero_jax.files import last_json_line, read_json, replacing, write_text
from muzero_jax.plain_yaml import read_yaml

SWEEP_FILE = "sweep.yaml"
OUTCOME_FILE = "outcome.json"
TABLE_FILE = "table.csv"
PARQUET_FILE = "table.parquet"

# What a row begins with; the settings that were varied come next, then what was measured.
_IDENTITY = ("setting", "seed", "status", "reason", "folder")
_MEASURED = (
    "score_mean",
    "score_std",
    "score_min",
    "score_max",
    "length_mean",
    "episodes",
    "env_steps",
    "num_updates",
    "train_seconds",
    "compile_seconds",
    "total_seconds",
    "runs_at_once",
    "device",
)


class SweepFolderError(ValueError):
    """A path is not a sweep folder, or nothing in it can be used; one clear sentence."""


@dataclasses.dataclass(frozen=True)
class SweepRecord:
    """What a sweep folder says.

    Attributes:
      folder: its path.
      experiment: its name on the command line.
      changed: settings in which all of its runs differ from the experiment, by dotted name.
      varied: the dotted names of the settings that differ between runs, in the order asked for.
      rows: one for each run that was begun, see `read_member`.
    """

    folder: Path
    experiment: str
    changed: Mapping[str, Any]
    varied: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]


def read_sweep(folder: Path) -> SweepRecord:
    """Reads a sweep folder, whatever state an interrupted sweep left it in.

    Raises:
      SweepFolderError: it is none.
    """
    path = folder / SWEEP_FILE
    if not path.is_file():
        raise SweepFolderError(f"{folder} is not a sweep folder: it holds no {SWEEP_FILE}.")
    try:
        tree = read_yaml(path)
        varied = list(tree.get("space") or {})
        varied += [name for setting in tree.get("settings", ()) for name in setting]
        experiment, changed = tree["experiment"], dict(tree.get("changed") or {})
    except (ConfigError, KeyError, TypeError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise SweepFolderError(f"{path} cannot be used: {reason}.") from error
    members = sorted(path.parent for path in folder.glob("members/setting-*/seed-*/config.yaml"))
    rows = sorted((read_member(path) for path in members), key=_order)
    names = tuple(dict.fromkeys(varied))
    return SweepRecord(folder, experiment, changed, names, tuple(rows))


def read_member(run_dir: Path) -> dict[str, Any]:
    """The row of one run: its identity, what was measured, its last metrics, and all settings.

    `status` is `finished`, `failed`, `pruned` or `unfinished`; `reason` says why. Times in seconds
    are wall-clock; `runs_at_once` runs shared them. Scores are of the final greedy evaluation.
    """
    settings = flatten(read_yaml(run_dir / "config.yaml"))
    outcome = read_json(run_dir / OUTCOME_FILE)
    result = read_json(run_dir / "result.json")
    metrics = last_json_line(run_dir / "metrics.jsonl")
    status = outcome.get("status") or ("finished" if result else "unfinished")
    last = {name.removeprefix("time/"): value for name, value in metrics.items()}
    return {
        "setting": int(run_dir.parent.name.partition("-")[2]),
        "seed": settings["seed"],
        "status": status,
        "reason": outcome.get("reason", ""),
        "folder": "/".join(run_dir.parts[-3:]),
        **{name: value for name, value in (last | result).items() if name in _MEASURED},
        **{name: value for name, value in metrics.items() if "/" in name},
        **{name: value for name, value in settings.items() if name not in ("seed", "name")},
    }


def write_table(
    folder: Path, rows: Iterable[Mapping[str, Any]], varied: Iterable[str], *, parquet: bool = False
) -> None:
    """Writes `table.csv`, and `table.parquet` where that is asked for; each is replaced whole.

    Raises:
      MissingExtraError: Parquet needs pandas and pyarrow, and one of them is not installed; the CSV
        is written.
    """
    ordered = sorted(rows, key=_order)
    columns = _columns(ordered, varied)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in ordered)
    write_text(folder / TABLE_FILE, text.getvalue())
    if parquet:
        _write_parquet(folder / PARQUET_FILE, ordered, columns)


def _write_parquet(path: Path, rows: list[Mapping[str, Any]], columns: list[str]) -> None:
    extra = {"purpose": "Parquet tables", "extra": "sweep"}
    pandas = import_extra("pandas", package="pandas", **extra)
    import_extra("pyarrow", package="pyarrow", **extra)
    # One type a column: a list is told as text, like in the CSV.
    plain = [{k: str(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows]
    with replacing(path) as temporary:
        pandas.DataFrame(plain, columns=columns).to_parquet(temporary, index=False)


def _order(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["setting"], row["seed"]


def _columns(rows: list[Mapping[str, Any]], varied: Iterable[str]) -> list[str]:
    first = dict.fromkeys([*_IDENTITY, *varied, *_MEASURED])
    names = dict.fromkeys(name for row in rows for name in row)
    metrics = sorted(name for name in names if "/" in name)
    settings = [name for name in names if name not in first and "/" not in name]
    return [*first, *metrics, *settings]


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, list) else value
