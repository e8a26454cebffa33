"""`muzero sweep` on the tiny experiment, as processes; for the tests that kill them."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import jax


def start_sweep(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts the command, with all that it prints in one pipe."""
    script = tmp_path / "tiny_experiment.py"
    script.write_text("from tiny_run import TINY as CONFIG\n")
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    cache = str(jax.config.values["jax_compilation_cache_dir"])
    experiment = [] if "--resume" in arguments else [str(script)]
    return subprocess.Popen(
        [sys.executable, "-m", "muzero_jax", "sweep", *experiment, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "MUZERO_CACHE_DIR": cache, "PYTHONPATH": path},
    )


def end_sweep(process: subprocess.Popen[str]) -> str:
    """Waits for it to end well; returns what it has printed."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def wait_for(pattern: str, folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Returns when so many paths match, or the process has ended."""
    while process.poll() is None and len(list(folder.glob(pattern))) < count:
        time.sleep(0.01)


def table_without_times(folder: Path) -> list[dict[str, str]]:
    """The rows of a sweep's table, in which two sweeps of the same runs agree."""
    with (folder / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    timed = ("seconds", "_per_second")
    return [{k: v for k, v in row.items() if not k.endswith(timed)} for row in rows]
