"""A run that is killed at any moment and continued ends as a run that is left alone, bit for bit.

A killed process leaves its files as they are at that moment. So one run is copied at several
moments of its life, and every copy is continued; a process that is truly killed shows the same.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny_run import TINY, shared_programs

from muzero_jax.checkpoints.checkpoint import restore
from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps
from muzero_jax.core.keys import to_numbers
from muzero_jax.runs import run_writer, runner
from muzero_jax.runs.build import build
from muzero_jax.runs.run_start import split_state
from muzero_jax.tracking import tracker

# The runs of this process are compared with that of another, and are compiled as that is.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def compile_once() -> Iterator[None]:
    with shared_programs():
        yield


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
    state = jax.eval_shape(build(TINY).train.init, jax.random.key(0))
    restored = restore(run_dir / "checkpoints", {**split_state(state), "best": state.agent})
    assert restored.step == 512
    leaves = jax.tree_util.tree_leaves_with_path(restored.groups)
    return [(jax.tree_util.keystr(path), to_numbers(leaf)) for path, leaf in leaves]


def _assert_same_run(run_dir: Path, left_alone: Path) -> None:
    assert _read_metrics(run_dir) == _read_metrics(left_alone)
    assert len(_read_metrics(run_dir)) == 8
    assert _read_evaluations(run_dir) == _read_evaluations(left_alone)
    assert [x["env_steps"] for x in _read_evaluations(run_dir)] == ["128", "256", "384", "512"]
    assert _read_result(run_dir) == _read_result(left_alone)
    scores = "evaluation_scores.csv"
    assert (run_dir / scores).read_bytes() == (left_alone / scores).read_bytes()
    for (name, leaf), (other_name, other) in zip(
        _read_state(run_dir), _read_state(left_alone), strict=True
    ):
        assert name == other_name
        assert leaf.dtype == other.dtype
        assert leaf.tobytes() == other.tobytes(), name


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed; beside it lie copies of its folder, named by their moments."""
    run_dir = tmp_path_factory.mktemp("runs") / "left alone"
    append, write_json = tracker._AppendFile.append, run_writer.write_json

    def copied(moment: str) -> None:
        shutil.copytree(run_dir, run_dir.with_name(moment))

    def append_in_two(file: Any, text: str) -> None:
        """Copies the folder in the middle of the second line of each file."""
        name = Path(file._file.name).stem
        if text.startswith(("256,", '{"env_steps": 128,')):
            half = len(text) // 2
            append(file, text[:half])
            copied(name)
            text = text[half:]
        append(file, text)

    def write_after_a_copy(path: Path, value: Any) -> None:
        copied("result")
        write_json(path, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracker._AppendFile, "append", append_in_two)
        patch.setattr(run_writer, "write_json", write_after_a_copy)
        runner.train(TINY, run_dir)
    return run_dir


@pytest.mark.parametrize(
    ("moment", "checkpoints"), [("metrics", []), ("evaluation", [128, 256]), ("result", [384, 512])]
)
def test_a_run_goes_on_from_every_moment(
    left_alone: Path, moment: str, checkpoints: list[int]
) -> None:
    killed = left_alone.with_name(moment)
    assert checkpoint_steps(killed / "checkpoints") == checkpoints
    assert not (killed / "result.json").exists()
    if moment != "result":
        assert not next(killed.glob(f"{moment}.*")).read_text().endswith("\n")
    runner.resume(killed)
    _assert_same_run(killed, left_alone)


@pytest.mark.timeout(300)
def test_a_process_that_is_killed_in_a_checkpoint_is_continued(
    left_alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process dies while the second checkpoint is written."""
    killed = tmp_path / "killed run"
    settings = {"MUZERO_CACHE_DIR": str(jax.config.values["jax_compilation_cache_dir"])}
    script = Path(__file__).with_name("tiny_run.py")
    process = subprocess.run(
        [sys.executable, str(script), str(killed)], timeout=240, env={**os.environ, **settings}
    )
    assert process.returncode == -9
    runner.resume(killed)
    assert "checkpoint 256 is half-written; using checkpoint 128" in capsys.readouterr().err
    _assert_same_run(killed, left_alone)
