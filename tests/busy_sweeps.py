"""Sweeps of many short runs, whose workers end runs as fast as the disk allows.

    python tests/busy_sweeps.py FOLDER NUM_SWEEPS NUM_RUNS

prints `all ended` when all sweeps are through.
"""

import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tiny_run import TINY

from muzero_jax.sweeps.definition import Member, Sweep
from muzero_jax.sweeps.sweep_progress import SweepProgress

RATE = "optimizer.learning_rate"


def sweep_of(num_runs: int) -> Sweep:
    """A sweep of so many settings with a seed each."""
    rates = tuple({RATE: 1e-3 * (number + 1)} for number in range(num_runs))
    return Sweep("tiny", TINY, (0,), rates)


def pretend_to_run(progress: SweepProgress, members: Sequence[Member], seconds: float) -> None:
    """Does what a worker does, but for the training."""
    for member in members:
        run = progress.begin(member)
        run.metrics({"env_steps": member.config.total_env_steps})
        run_dir = progress.folder / member.folder
        run_dir.mkdir(parents=True)
        # JSON is YAML, which is read slowly.
        settings = {"seed": 0, "optimizer": {"learning_rate": 1e-3 * (member.setting + 1)}}
        (run_dir / "config.yaml").write_text(json.dumps(settings))
        time.sleep(seconds)
        result = {"score_mean": float(member.setting), "score_std": 0.0, "train_seconds": seconds}
        (run_dir / "result.json").write_text(json.dumps(result))
        progress.end([member])


def pretend_to_sweep(
    folder: Path, num_runs: int, seconds: float, num_workers: int = 2
) -> SweepProgress:
    """A sweep of so many runs, shared by workers; returns when all is over."""
    folder.mkdir(parents=True)
    sweep = sweep_of(num_runs)
    progress = SweepProgress(folder, sweep, f"a sweep in {folder}")
    with progress.shown():
        parts = [sweep.members()[worker::num_workers] for worker in range(num_workers)]
        workers = [
            threading.Thread(target=pretend_to_run, args=(progress, part, seconds), daemon=True)
            for part in parts
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        progress.finish()
    return progress


if __name__ == "__main__":
    for number in range(int(sys.argv[2])):
        pretend_to_sweep(Path(sys.argv[1]) / str(number), int(sys.argv[3]), 0.001)
    print("all ended")
