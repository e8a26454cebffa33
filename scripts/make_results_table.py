"""Writes the tables of README.md and docs/tabular.md from the CSVs in experiments/results/.

python scripts/make_results_table.py            # renew them
python scripts/make_results_table.py --check    # exit with 1 where one is stale
"""

import argparse
import sys
from pathlib import Path

from muzero_jax.core.terminal import run_program
from muzero_jax.reports.results import ResultsError, make_table, replace_table
from muzero_jax.tabular.study_tables import STUDY_TABLES, make_study_table


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


if __name__ == "__main__":
    sys.exit(run_program(main))
