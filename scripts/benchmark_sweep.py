"""Times a sweep over seeds against as many single runs, processes and compiling included.

    python scripts/benchmark_sweep.py cartpole --seeds 16 --json

Half of the single runs come before the sweep and half after it, so that a drifting machine favours
neither. Every process starts with an empty compilation cache, unless --warm fills one first.
"""

import argparse
import csv
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from muzero_jax.cli.experiments import load_experiment
from muzero_jax.config import ConfigError
from muzero_jax.core.terminal import run_program


@dataclasses.dataclass(frozen=True)
class SweepCost:
    """Seconds of whole processes, and whether the sweep's scores are those of the single runs."""

    num_seeds: int
    sweep_seconds: float
    singles_seconds: float
    ratio: float
    equal_scores: int


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Any setting of the experiment can be added; see `muzero train EXPERIMENT --help`.",
        allow_abbrev=False,
    )
    parser.add_argument("experiment", help="name of an experiment, or path of its script")
    parser.add_argument("--seeds", type=int, default=16, help="runs each way (default 16)")
    parser.add_argument("--warm", action="store_true", help="share one compilation cache")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    try:
        options, overrides = parser.parse_known_args(arguments)
        load_experiment(options.experiment)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        cost = _measure(options, overrides, Path(folder))
    results = dataclasses.asdict(cost)
    print(json.dumps(results) if options.json else results)
    return 0


def _measure(options: argparse.Namespace, overrides: Sequence[str], folder: Path) -> SweepCost:
    def single(seed: int) -> float:
        out = ["--seed", str(seed), "--out", str(folder / f"seed-{seed}")]
        return _run(["train", options.experiment, *out, *overrides], folder, options.warm)

    half = options.seeds // 2
    if options.warm:
        _run(["sweep", options.experiment, "--out", str(folder / "warm"), *overrides], folder, True)
    singles = [single(seed) for seed in range(half)]
    out = ["--seeds", str(options.seeds), "--out", str(folder / "sweep")]
    sweep = _run(["sweep", options.experiment, *out, *overrides], folder, options.warm)
    singles += [single(seed) for seed in range(half, options.seeds)]
    with (folder / "sweep" / "table.csv").open(newline="", encoding="utf-8") as file:
        scores = {int(row["seed"]): float(row["score_mean"]) for row in csv.DictReader(file)}
    alone = [
        json.loads((folder / f"seed-{s}" / "result.json").read_text(encoding="utf-8"))
        for s in scores
    ]
    return SweepCost(
        num_seeds=options.seeds,
        sweep_seconds=sweep,
        singles_seconds=sum(singles),
        ratio=sweep / sum(singles),
        equal_scores=sum(scores[run["seed"]] == run["score_mean"] for run in alone),
    )


def _run(arguments: Sequence[str], folder: Path, warm: bool) -> float:
    """Seconds of one process."""
    kept = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment = {**kept, "MUZERO_CACHE_DIR": str(folder / "cache") if warm else ""}
    command = [sys.executable, "-m", "muzero_jax", *arguments]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(run_program(main))
