"""Kills a sweep at random, resumes it, and compares table and time with a sweep left alone.

    python scripts/benchmark_kills.py catch --seeds 4 --set learning_rate=1e-4..1e-2:log \
        --points 16 --kills 3 --json

The arguments are those of `muzero sweep`. Each kill is SIGKILL, at a moment drawn uniformly from
the time that the sweep left alone took, divided by the kills; the sweep is resumed at once.
"""

import argparse
import csv
import dataclasses
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from muzero_jax.core.terminal import run_program


@dataclasses.dataclass(frozen=True)
class KillCost:
    """Seconds of both ways, and whether their tables agree but for times."""

    num_members: int
    num_kills: int
    whole_seconds: float
    killed_seconds: float
    lost_share: float
    same_table: bool


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=3, help="how often (default 3)")
    parser.add_argument("--draw", type=int, default=0, help="seed of the moments (default 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options, sweep = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        cost = _measure(sweep, Path(folder), options.kills, random.Random(options.draw))
    results = dataclasses.asdict(cost)
    print(json.dumps(results) if options.json else results)
    return 0 if cost.same_table else 1


def _measure(
    sweep: Sequence[str], folder: Path, num_kills: int, generator: random.Random
) -> KillCost:
    whole, killed = folder / "whole", folder / "killed"
    # Both find the programs of a first run in the cache, as a resumed sweep does.
    _run(_command(sweep, folder / "warm"), folder, patience=20.0)
    start = time.perf_counter()
    _run(_command(sweep, whole), folder)
    whole_seconds = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(num_kills):
        _run(_command(sweep, killed), folder, generator.uniform(0, whole_seconds / num_kills))
    _run(_command(sweep, killed), folder)
    killed_seconds = time.perf_counter() - start
    return KillCost(
        num_members=len(_table(whole)),
        num_kills=num_kills,
        whole_seconds=whole_seconds,
        killed_seconds=killed_seconds,
        lost_share=killed_seconds / whole_seconds - 1,
        same_table=_table(whole) == _table(killed),
    )


def _command(sweep: Sequence[str], out: Path) -> list[str]:
    return [sys.executable, "-m", "muzero_jax", "sweep", *sweep, "--out", str(out)]


def _run(command: Sequence[str], folder: Path, patience: float | None = None) -> None:
    """Runs the process to its end, or kills it after `patience` seconds."""
    kept = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment = {**kept, "MUZERO_CACHE_DIR": str(folder / "cache")}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    try:
        if process.wait(timeout=patience):
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}.")
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _table(folder: Path) -> list[dict[str, str]]:
    """The rows of a sweep, without times."""
    with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    timed = ("seconds", "_per_second")
    return [{k: v for k, v in row.items() if not k.endswith(timed)} for row in rows]


if __name__ == "__main__":
    sys.exit(run_program(main))
