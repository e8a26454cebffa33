"""Writes the tables of docs/tabular.md from the CSVs in experiments/results/.

python scripts/make_study_tables.py            # renew them
python scripts/make_study_tables.py --check    # exit with 1 where one is stale
"""

import argparse
import sys
from pathlib import Path

from muzero_jax.core.terminal import run_program
from muzero_jax.reports.results import ResultsError, replace_table
from muzero_jax.tabular.study_tables import STUDY_TABLES, make_study_table

_ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str] | None = None) -> int:
    """Renews or compares; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    parser.add_argument("--page", type=Path, default=_ROOT / "docs" / "tabular.md")
    parser.add_argument("--results", type=Path, default=_ROOT / "experiments" / "results")
    options = parser.parse_args(arguments)
    try:
        old = new = options.page.read_text(encoding="utf-8")
        for table in STUDY_TABLES:
            new = replace_table(new, make_study_table(options.results, table), table.study)
    except (ResultsError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if new != old and options.check:
        command = "python scripts/make_study_tables.py"
        print(f"A table in {options.page} is stale: {command}", file=sys.stderr)
        return 1
    options.page.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
