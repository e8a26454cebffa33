"""Raw-score files, with a row for each seed of an experiment, and the README's table from them.

A score file is a CSV, and a pandas table here. `experiments/results/README.md` describes each
column, with its unit.
"""

import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from muzero_jax.core.files import write_text
from muzero_jax.reports.extras import import_extra
from muzero_jax.reports.statistics import bootstrap_interval

COLUMNS = (
    *("experiment", "seed", "env_steps", "num_updates", "episodes"),
    *("score_mean", "score_std", "score_min", "score_max"),
    *("train_seconds", "compile_seconds", "total_seconds"),
    *("threshold", "steps_to_threshold", "device", "versions", "command"),
)
_TEXTS = ("experiment", "device", "versions", "command")
_TYPES: dict[str, str] = {
    **dict.fromkeys(COLUMNS, "float64"),
    **dict.fromkeys(("seed", "env_steps", "episodes"), "int64"),
    **dict.fromkeys(("num_updates", "steps_to_threshold"), "Int64"),
    **dict.fromkeys(_TEXTS, "str"),
}
IDENTITY = ["experiment", "device", "seed"]
"""The columns that together differ in all rows of a file."""


class ResultsError(ValueError):
    """A score file or a page cannot be used; the message is one clear sentence."""


def is_score_file(path: Path) -> bool:
    """Whether a CSV holds a score for each seed; other measurements may lie beside such files."""
    header = path.read_text(encoding="utf-8").partition("\n")[0]
    return {"experiment", "seed", "score_mean"} <= set(header.strip().split(","))


def read_scores(path: Path) -> Any:
    """Reads a score file as a pandas table.

    Raises:
      ResultsError: the file is no table, lacks a column, or has a cell that cannot be read.
    """
    numbers = {name: [""] for name in COLUMNS if name not in _TEXTS}
    options = {"usecols": COLUMNS, "keep_default_na": False, "na_values": numbers}
    try:
        return _pandas().read_csv(path, dtype=_TYPES, **options)
    except ValueError as error:
        raise ResultsError(f"{path} is no table of scores: {error}.") from error


def update_scores(path: Path, row: Mapping[str, Any]) -> None:
    """Puts a row into a score file, in place of the row of the same experiment, device and seed.

    The rows are ordered by these three. The folder of the file is made.
    """
    pandas = _pandas()
    table = pandas.DataFrame([row], columns=COLUMNS).astype(_TYPES)
    if path.exists():
        table = pandas.concat([read_scores(path), table]).drop_duplicates(IDENTITY, keep="last")
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = table.sort_values(IDENTITY)
    write_text(path, ordered.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def update_curves(
    path: Path, experiment: str, seed: int, evaluation: Mapping[str, np.ndarray]
) -> None:
    """Puts the evaluations of a run into a file of curves, in place of those of the same seed.

    Args:
      path: a CSV with a row for each evaluation; its folder is made.
      experiment: the name of the experiment.
      seed: the run's seed.
      evaluation: the run's `env_steps`, `episodes` and `score_mean`, by evaluation.
    """
    pandas, key = _pandas(), ["experiment", "seed"]
    names = {"env_steps": "env_steps", "episodes": "episodes", "score_mean": "evaluation_score"}
    columns = {new: evaluation[old] for old, new in names.items()}
    table = pandas.DataFrame({"experiment": experiment, "seed": seed, **columns})
    table = table.astype({"env_steps": "int64", "episodes": "int64"})
    if path.exists():
        old = pandas.read_csv(path)
        others = (old[key] != [experiment, seed]).any(axis=1)
        table = pandas.concat([old[others], table])
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = table.sort_values([*key, "env_steps"])
    write_text(path, ordered.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def _pandas() -> types.ModuleType:
    return import_extra("pandas", purpose="Tables of results", package="pandas")


def summarise(table: Any) -> dict[tuple[str, str], Any]:
    """Puts the seeds of each experiment on each device together, in order of appearance.

    Returns:
      The rows by experiment and device. In their commands, `SEED` stands for the seed.

    Raises:
      ResultsError: rows that are put together are not repetitions of the same run, or a seed
        comes twice.
    """
    commands = [
        command.replace(f"--seed {seed}", "--seed SEED")
        for command, seed in zip(table.command, table.seed, strict=True)
    ]
    groups = dict(iter(table.assign(command=commands).groupby(IDENTITY[:2], sort=False)))
    for (experiment, _), rows in groups.items():
        _require_repetitions(experiment, rows)
    return groups


def _require_repetitions(experiment: str, rows: Any) -> None:
    for column in ("env_steps", "episodes", "threshold", "command"):
        values = rows[column].unique()
        if len(values) > 1:
            raise ResultsError(
                f"The rows of {experiment} differ in {column} ({values[0]} and {values[1]}), so "
                "they are not repetitions of one run."
            )
    if rows.seed.duplicated().any():
        raise ResultsError(f"A seed of {experiment} comes twice: {sorted(rows.seed)}.")


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
    groups = [rows for path in paths for rows in summarise(read_scores(path)).values()]
    if not groups:
        return ""
    cells = [_cells(rows) for rows in groups]
    rule = "|" + "|".join(["---", *["---:"] * (len(cells[0]) - 2), "---"]) + "|"
    lines = [table_line(row.values()) for row in cells]
    return "\n".join([table_line(cells[0]), rule, *lines, "", _explain(groups)])


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


def _cells(rows: Any) -> dict[str, str]:
    """The cells of one experiment on one device, by the heading of their column."""
    first = rows.iloc[0]
    estimate, low, high = map(_format_score, bootstrap_interval(rows.score_mean))
    return {
        "Experiment": first.experiment,
        "Seeds": str(len(rows)),
        "Env steps": f"{first.env_steps:,}",
        "Score, IQM [95 %]": f"**{estimate}** [{low}, {high}]",
        "Worst seed": _format_score(rows.score_mean.min()),
        "Steps to threshold": _format_threshold(rows),
        "Wall-clock": _format_seconds(rows.total_seconds.median()),
        "Compile": _format_seconds(rows.compile_seconds.median()),
        "Device": first.device,
    }


def _format_score(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _format_seconds(seconds: float) -> str:
    if np.isnan(seconds):
        return "-"
    if seconds >= 3 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds:.0f} s"


def _format_threshold(rows: Any) -> str:
    """Median steps to the threshold; a seed that never reached it counts as infinitely slow."""
    threshold, steps = rows.threshold.iloc[0], rows.steps_to_threshold
    if np.isnan(threshold):
        return "-"
    median = np.median(steps.to_numpy(float, na_value=np.inf))
    shown = f"{median:,.0f}" if np.isfinite(median) else "not reached"
    return f"{shown} (to {threshold:g}, {steps.count()} of {len(steps)})"


def _explain(groups: Iterable[Any]) -> str:
    """How to read the table, and the commands that repeat its rows."""
    firsts = [rows.iloc[0] for rows in groups]
    episodes = " or ".join(map(str, sorted({first.episodes for first in firsts})))
    commands = ", ".join(dict.fromkeys(f"`{first.command}`" for first in firsts))
    return (
        f"A seed's score is its greedy mean over {episodes} complete "
        "episodes after training; IQM is the interquartile mean over seeds, with a 95 % bootstrap "
        "interval. Wall-clock is the median over seeds of the whole process, which compiles "
        "everything anew, without a cache. Steps to threshold are the median over seeds of the "
        f"first evaluation at the threshold. Commands: {commands}."
    )
