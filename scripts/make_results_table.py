"""Writes the README's results table from the raw scores in experiments/results/.

python scripts/make_results_table.py            # renew it
python scripts/make_results_table.py --check    # exit with 1 where it is stale
"""

import argparse
import sys
from pathlib import Path

from muzero_jax.core.terminal import run_program
from muzero_jax.reports.results import make_table, replace_table
from muzero_jax.reports.score_files import ResultsError

_ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    parser.add_argument("--readme", type=Path, default=_ROOT / "README.md")
    parser.add_argument("--results", type=Path, default=_ROOT / "experiments" / "results")
    options = parser.parse_args(arguments)
    try:
        old = options.readme.read_text(encoding="utf-8")
        new = replace_table(old, make_table(options.results))
    except (ResultsError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if new == old:
        print(f"The results table in {options.readme} is up to date.")
    elif options.check:
        command = "python scripts/make_results_table.py"
        print(f"The results table in {options.readme} is stale: {command}", file=sys.stderr)
        return 1
    else:
        options.readme.write_text(new, encoding="utf-8")
        print(f"Renewed the results table in {options.readme}.")
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
