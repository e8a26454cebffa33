"""A sweep on a real Ray cluster of two worker processes, one of which is killed on the way."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sweep_process import end_sweep, start_sweep, table_without_times, wait_for

from muzero_jax.cli import main
from muzero_jax.core import trust
from muzero_jax.sweeps.cluster import _write_files
from muzero_jax.sweeps.remote_worker import RemoteWorker, _read_files

pytest.importorskip("ray")


def _workers() -> Iterator[int]:
    """The processes of Ray's workers, by the title that Ray gives them."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::RemoteWorker"):
                yield int(path.parent.name)
        except OSError:
            continue  # It has just ended.


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_a_killed_worker_s_runs_are_taken_up_by_another(tmp_path):
    arguments = ["--seeds", "2", "--set", "learning_rate=1e-3,1e-2"]
    end_sweep(start_sweep(tmp_path, *arguments, "--out", str(tmp_path / "here")))
    folder = tmp_path / "cluster"
    process = start_sweep(tmp_path, *arguments, "--ray", "local", "--out", str(folder))
    wait_for("members/*/*/checkpoints/*", folder, 1, process)
    os.kill(next(_workers()), signal.SIGKILL)
    output = end_sweep(process)
    assert "a worker was lost; another takes up what it had" in output
    assert "on 2 Ray workers (CPU)" in output
    assert table_without_times(folder) == table_without_times(tmp_path / "here")
    assert not list(folder.glob(".*.token"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_over_a_cluster_runs_every_trial_once(tmp_path):
    folder = tmp_path / "study"
    arguments = ["--set", "learning_rate=1e-3..1e-1:log", "--study", "rates", "--trials", "4"]
    arguments += ["--pruner", "none", "--ray", "local", "--out", str(folder)]
    output = end_sweep(start_sweep(tmp_path, *arguments))
    assert "4/4" in output and "4 finished" in output
    rows = table_without_times(folder)
    assert [row["setting"] for row in rows] == ["0", "1", "2", "3"]
    assert len({row["optimizer.learning_rate"] for row in rows}) == 4


def test_a_worker_without_the_folder_sends_its_results(tmp_path, monkeypatch):
    """The files of a run that was made elsewhere, the last of them the one that ends it."""
    monkeypatch.setattr(trust._Decision, "is_given", False)
    monkeypatch.setattr(trust._Decision, "seals", True)
    here, there = tmp_path / "here", tmp_path / "there"
    (there / "checkpoints/64").mkdir(parents=True)
    (there / "checkpoints/64/data").write_bytes(b"\x00\x01")
    (there / "result.json").write_text("{}")
    worker = RemoteWorker(str(tmp_path / "nowhere"), "token", num_sharing=1, code_folders=())
    assert not worker.is_shared and worker.folder.is_dir()
    files = _read_files(there)
    written = []
    write_bytes = Path.write_bytes

    def remember(path, data):
        written.append(path.name)
        return write_bytes(path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", remember)
        _write_files(here, files)
    assert _read_files(here) == files
    assert written[-1].startswith(".result.json.")
    (tmp_path / "token").touch()
    assert RemoteWorker(str(tmp_path), "token", num_sharing=1, code_folders=()).is_shared


@pytest.mark.slow
def test_an_address_that_nobody_answers_is_one_sentence(tmp_path):
    out = ["--set", "learning_rate=1e-3,1e-2", "--out", str(tmp_path / "out")]
    began = time.perf_counter()
    process = start_sweep(tmp_path, *out, "--ray", "127.0.0.1:1")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 2
    assert "no Ray cluster answers at '127.0.0.1:1'" in output
    assert time.perf_counter() - began < 120
    assert not (tmp_path / "out").exists()


def test_what_does_not_go_with_ray_is_one_sentence(tmp_path, capsys):
    command = ["sweep", "catch", "--set", "td_steps=1,2", "--out", str(tmp_path / "out")]
    assert main([*command, "--ray", "auto", "--devices", "2"]) == 2
    assert "leave out --devices" in capsys.readouterr().err
