"""Writes the tables of README.md and docs/tabular.md from the CSVs in experiments/results/.

python scripts/make_results_table.py            # renew them
python scripts/make_results_table.py --check    # exit with 1 where one is stale
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from muzero_jax.core.terminal import run_program
from muzero_jax.reports.extras import import_extra
from muzero_jax.reports.results import ResultsError, make_table, replace_table, table_line
from muzero_jax.tabular.study_plots import quartiles


@dataclasses.dataclass(frozen=True)
class StudyTable:
    """What a table shows of a study.

    Attributes:
      study: name of the CSV, without its ending.
      by: columns of the CSV; each combination of their values is a row of the table.
      values: columns of the CSV to summarise, each with its heading.
      across: a column of the CSV whose values become columns of the table; none where empty.
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


def main(arguments: list[str] | None = None) -> int:
    """Renews or compares the tables; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    root = Path(__file__).resolve().parents[1]
    parser.add_argument("--root", type=Path, default=root, help="folder of the project")
    options = parser.parse_args(arguments)
    try:
        stale = _stale_pages(options.root)
    except (ResultsError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for page, text in stale.items():
        if options.check:
            command = "python scripts/make_results_table.py"
            print(f"A table in {page} is stale: {command}", file=sys.stderr)
        else:
            page.write_text(text, encoding="utf-8")
            print(f"Renewed the tables in {page}.")
    if not stale:
        print("All tables are up to date.")
    return 1 if stale and options.check else 0


def _stale_pages(root: Path) -> dict[Path, str]:
    """The pages with a table that differs from the CSVs, and what the pages should hold."""
    results = root / "experiments" / "results"
    studies = {table.study: make_study_table(results, table) for table in STUDY_TABLES}
    tables = {"README.md": {"results": make_table(results)}, "docs/tabular.md": studies}
    stale = {}
    for name, named in tables.items():
        old = new = (root / name).read_text(encoding="utf-8")
        for marker, table in named.items():
            new = replace_table(new, table, marker)
        if new != old:
            stale[root / name] = new
    return stale


def make_study_table(results_dir: Path, table: StudyTable) -> str:
    """Makes a table in Markdown from the CSVs in a folder.

    Raises:
      MissingExtraError: pandas is not installed.
    """
    pandas = import_extra("pandas", purpose="Tables of studies", package="pandas")
    path = results_dir / f"{table.study}.csv"
    rows = pandas.read_csv(path, dtype=str, keep_default_na=False)
    headings, across = [heading for _, heading in table.values], [""]
    if table.across:
        across = list(rows[table.across].unique())
        if all(name.isdecimal() for name in across):
            across.sort(key=int)
        headings = [f"{table.across} {name}" if name.isdecimal() else name for name in across]
    titles = [name.replace("_", " ").replace("num ", "") for name in table.by] + headings
    lines = [table_line(titles), table_line(["---"] * len(titles))]
    for key, own in rows.groupby(list(table.by), sort=False):
        parts = [own[own[table.across] == name] if name else own for name in across]
        cells = [_summary(part[column], table) for part in parts for column, _ in table.values]
        lines.append(table_line([*key, *cells]))
    return "\n".join(lines)


def _summary(cells: Iterable[str], table: StudyTable) -> str:
    """One cell of the table, from cells of the CSV.

    An empty cell of the CSV means that the threshold was not reached within the study; a dash means
    that the learner does not count this.
    """
    if set(cells) <= {"-"}:
        return "-"
    numbers = np.array([float(cell) if cell else math.inf for cell in cells])
    if table.statistic == "mean" and np.isfinite(numbers).all():
        return f"{numbers.mean():.3f} ± {numbers.std():.3f}"
    low, middle, high = map(float, quartiles(numbers))
    if low == high:
        return _number(middle)
    return f"{_number(middle)} ({_number(low)} to {_number(high)})"


def _number(value: float) -> str:
    if math.isinf(value):
        return "never"
    return f"{value:,.0f}" if value >= 10.0 or value == int(value) else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(run_program(main))
