"""Trains members of a sweep again, alone, and compares them with what the sweep has made.

    python scripts/check_members.py sweeps/lr
    python scripts/check_members.py sweeps/lr --most 4

Every number that a member reports must be equal, times apart, and so must its parameters; what
differs is printed with the largest difference. Exits with 1 where anything does.
"""

import argparse
import contextlib
import csv
import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from muzero_jax.core.terminal import run_program
from muzero_jax.process.jax_process import prepare_jax
from muzero_jax.runs.build import load_run
from muzero_jax.runs.run_folder import load_config
from muzero_jax.runs.runner import train


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", type=Path, help="folder of a sweep")
    parser.add_argument("--most", type=int, help="members to check (default all)")
    options = parser.parse_args(arguments)
    prepare_jax()
    members = sorted(path.parent for path in options.sweep.glob("members/*/*/result.json"))
    if not members:
        print(f"error: no run in {options.sweep} is finished.", file=sys.stderr)
        return 2
    num_equal = sum(map(_check, members[: options.most]))
    print(f"{num_equal} of {len(members[: options.most])} members are equal to their single runs")
    return 0 if num_equal == len(members[: options.most]) else 1


def _check(member: Path) -> bool:
    """Trains one member alone; returns whether everything is equal, and says what is not."""
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "alone"
        with contextlib.redirect_stdout(io.StringIO()):
            train(load_config(member), alone)
        same_scores = _evaluations(member) == _evaluations(alone)
        pair = [jax.tree.leaves(load_run(path).agent_state) for path in (member, alone)]
        difference = max(_difference(x, y) for x, y in zip(*pair, strict=True))
    is_equal = same_scores and difference == 0.0
    told = "equal" if is_equal else f"scores equal: {same_scores}, parameters by {difference:.3g}"
    print(f"{'/'.join(member.parts[-2:])}: {told}", flush=True)
    return is_equal


def _evaluations(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "evaluation.csv").open(newline="", encoding="utf-8") as file:
        return [{**row, "train_seconds": ""} for row in csv.DictReader(file)]


def _difference(x: jax.Array, y: jax.Array) -> float:
    return float(np.max(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)), initial=0.0))


if __name__ == "__main__":
    sys.exit(run_program(main))
