"""Markdown tables of the studies, from the CSVs that they leave."""

import csv
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from muzero_jax.reports.statistics import order_quantile


@dataclasses.dataclass(frozen=True)
class StudyTable:
    """What a table shows of a study.

    Attributes:
      study: name of the CSV, without its ending.
      by: columns of the CSV whose combinations are the rows of the table.
      values: columns to summarise, with their headings.
      across: a column whose values become columns of the table; none where empty.
      statistic: `median`, with quartiles, or `mean`, with the standard deviation over seeds.
    """

    study: str
    by: tuple[str, ...]
    values: tuple[tuple[str, str], ...]
    across: str = ""
    statistic: Literal["median", "mean"] = "median"


STUDY_TABLES = (
    StudyTable(
        "maze_simulations",
        ("num_simulations",),
        (("logged_return", "as logged"), ("greedy_return", "exact greedy return")),
        statistic="mean",
    ),
    StudyTable(
        "maze_unknown",
        ("arm",),
        (
            ("steps_to_99_percent", "steps to 99 %"),
            ("final_greedy_return", "return after 5,000"),
            ("known_pairs", "share of pairs tried"),
        ),
    ),
    StudyTable("deep_sea_exploration", ("arm",), (("episodes", ""),), across="size"),
    StudyTable("credit_assignment", ("task", "order"), (("backups", ""),), across="size"),
    StudyTable(
        "credit_assignment_branching", ("fan_in", "fan_out"), (("backups", ""),), across="order"
    ),
    StudyTable("replay_is_a_model", ("arm",), (("updates", ""),), across="task"),
)
"""The tables of docs/tabular.md."""


def make_study_table(results_dir: Path, table: StudyTable) -> str:
    """The table in Markdown.

    Args:
      results_dir: folder of the CSVs.
      table: what to show.
    """
    path = results_dir / f"{table.study}.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    across = list(dict.fromkeys(row[table.across] for row in rows)) if table.across else [""]
    if all(name.isdecimal() for name in across):
        across.sort(key=int)
    headings = [heading for _, heading in table.values]
    if table.across:
        headings = [f"{table.across} {name}" if name.isdecimal() else name for name in across]
    titles = [name.replace("_", " ").replace("num ", "") for name in table.by]
    lines = [_line([*titles, *headings]), _line(["---"] * len([*titles, *headings]))]
    for key in dict.fromkeys(tuple(row[name] for name in table.by) for row in rows):
        own = [row for row in rows if tuple(row[name] for name in table.by) == key]
        cells = [
            _summary([row[column] for row in own if not name or row[table.across] == name], table)
            for name in across
            for column, _ in table.values
        ]
        lines.append(_line([*key, *cells]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _summary(cells: Sequence[str], table: StudyTable) -> str:
    """One cell of the table, from those of the CSV.

    There an empty one is a time that was longer than the study, and a dash what nobody counted.
    """
    if set(cells) <= {"-"}:
        return "-"
    numbers = np.array([float(cell) if cell else math.inf for cell in cells])
    if table.statistic == "mean" and np.isfinite(numbers).all():
        return f"{numbers.mean():.3f} ± {numbers.std():.3f}"
    low, middle, high = (float(order_quantile(numbers, share)) for share in (0.25, 0.5, 0.75))
    if low == high:
        return _number(middle)
    return f"{_number(middle)} ({_number(low)} to {_number(high)})"


def _number(value: float) -> str:
    if math.isinf(value):
        return "never"
    return f"{value:,.0f}" if value >= 10.0 or value == int(value) else f"{value:.3f}"
