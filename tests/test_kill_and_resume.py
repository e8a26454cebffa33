"""A run that is killed again and again ends as the run that was left alone, bit for bit."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny_run import TINY

from muzero_jax.checkpoints.checkpoint import restore_newest
from muzero_jax.runs import runner
from muzero_jax.runs.build import build
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.runs.run_start import split_state


def _read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def _read_evaluations(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "train_seconds"} for row in rows]


def _read_result(run_dir: Path) -> dict[str, Any]:
    result = json.loads((run_dir / "result.json").read_text())
    return {k: v for k, v in result.items() if not k.endswith("_seconds")}


def _read_state(run_dir: Path) -> list[tuple[str, np.ndarray]]:
    """Every leaf of the final state and of the best agent, keys as their data."""
    state = Programs(build(TINY)).shapes
    shapes = {**split_state(state), "best": state.agent}
    restored = restore_newest(run_dir / "checkpoints", shapes)
    assert restored.step == 512
    leaves = jax.tree_util.tree_leaves_with_path(restored.groups)
    return [(jax.tree_util.keystr(path), _to_numpy(leaf)) for path, leaf in leaves]


def _to_numpy(leaf: jax.Array) -> np.ndarray:
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _run(where: str, action: str, out: Path) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("tiny_run.py")
    # This process compiles the programs that the killed processes need.
    cache = jax.config.values["jax_compilation_cache_dir"]
    return subprocess.run(
        [sys.executable, str(script), where, action, str(out)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "MUZERO_CACHE_DIR": str(cache)},
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_and_resumed_run_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    left_alone, killed = tmp_path / "left alone", tmp_path / "killed run"
    runner.train(TINY, left_alone)

    # The process dies in the middle of a line, before the first checkpoint.
    assert _run("metrics:2", "train", killed).returncode == -9
    assert not any((killed / "checkpoints").iterdir())
    assert not (killed / "metrics.jsonl").read_text().endswith("\n")
    # The process dies while the second checkpoint is written.
    assert _run("checkpoint:2", "resume", killed).returncode == -9
    # The process dies in an evaluation's row, after the checkpoint of the same step.
    resumed = _run("evaluation:2", "resume", killed)
    assert resumed.returncode == -9
    assert "checkpoint 256 is half-written; using checkpoint 128" in resumed.stderr
    # On SIGTERM the chunk is finished and saved, and the command to resume is printed.
    stopped = _run("sigterm:1", "resume", killed)
    assert stopped.returncode == 143
    assert f"muzero train --resume '{killed}'" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    # The process dies after the last evaluation, before `result.json` is written.
    assert _run("result:1", "resume", killed).returncode == -9
    finished = _run("never", "resume", killed)
    assert finished.returncode == 0, finished.stderr

    assert _read_metrics(killed) == _read_metrics(left_alone)
    assert len(_read_metrics(killed)) == 8
    assert _read_evaluations(killed) == _read_evaluations(left_alone)
    assert [row["env_steps"] for row in _read_evaluations(killed)] == ["128", "256", "384", "512"]
    assert _read_result(killed) == _read_result(left_alone)
    scores = "evaluation_scores.csv"
    assert (killed / scores).read_bytes() == (left_alone / scores).read_bytes()
    for (name, leaf), (other_name, other) in zip(
        _read_state(killed), _read_state(left_alone), strict=True
    ):
        assert name == other_name
        assert leaf.dtype == other.dtype
        assert leaf.tobytes() == other.tobytes(), name
