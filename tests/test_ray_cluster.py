"""A sweep on a real Ray cluster of two worker processes, one of which is killed on the way."""

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sweep_process import end_sweep, start_sweep, table_without_times, wait_for
from tiny_run import TINY, tiny

from muzero_jax.cli import main
from muzero_jax.config import ConfigError
from muzero_jax.core import trust
from muzero_jax.core.errors import InterruptedRunError, RunError
from muzero_jax.sweeps.definition import Study, Sweep
from muzero_jax.sweeps.ray_cluster import _WorkerThread, _write_files
from muzero_jax.sweeps.ray_worker import RayWorker, _read_files
from muzero_jax.sweeps.runner import run_sweep
from muzero_jax.sweeps.search_space import parse_axis
from muzero_jax.sweeps.sweep_progress import Stop, SweepProgress

RATES = ({"optimizer.learning_rate": 1e-3}, {"optimizer.learning_rate": 1e-2})
SWEEP = Sweep("tiny", TINY, (0,), RATES)


needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed"
)


@pytest.fixture(autouse=True)
def trust_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker trusts everything and seals nothing, which here is the process of all tests."""
    monkeypatch.setattr(trust._Decision, "is_given", False)
    monkeypatch.setattr(trust._Decision, "seals", True)


class FakeRay:
    """A cluster in this process: the driver's calls reach a worker as they are.

    Args:
      lose_at: the worker is lost at its message of that number; never where 0.
    """

    exceptions = SimpleNamespace(RayTaskError=ZeroDivisionError, RayActorError=ConnectionError)

    def __init__(self, lose_at: int = 0):
        self.lose_at, self.messages = lose_at, []
        self.worker: RayWorker

    def get(self, message: Any) -> Any:
        self.messages.append(message)
        if len(self.messages) == self.lose_at:
            self.lose()
        return message

    def lose(self) -> None:
        """Ends the worker's thread as well, which in a real cluster its process takes with it."""
        self.worker.stop(9)
        for _ in range(9):
            self.worker.answer("over")
        raise ConnectionError

    def handle(self, worker: RayWorker) -> Any:
        self.worker = worker
        streaming = SimpleNamespace(remote=worker.work)
        return SimpleNamespace(
            work=SimpleNamespace(options=lambda num_returns: streaming),
            answer=SimpleNamespace(remote=worker.answer),
            stop=SimpleNamespace(remote=worker.stop),
        )


def _drive(ray: FakeRay, folder: Path, stop: Stop | None = None) -> SweepProgress:
    """Runs `SWEEP` in `folder` by workers that do not see it."""
    nowhere = folder.parent / "nowhere" / "token"

    def make_worker() -> Any:
        return ray.handle(
            RayWorker(SWEEP.to_dict(), nowhere, num_workers=1, code_folders=(), width=0)
        )

    folder.mkdir(exist_ok=True)
    stop = stop or Stop(SimpleNamespace(signal_number=None))
    progress = SweepProgress(folder, SWEEP, "a sweep")
    with progress.shown():
        try:
            _WorkerThread(ray, make_worker, folder, progress, stop).run()
        finally:
            progress.finish()
    return progress


def _workers() -> Iterator[int]:
    """The processes of Ray's workers, by the title that Ray gives them."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::RayWorker"):
                yield int(path.parent.name)
        except OSError:
            continue  # It has just ended.


@needs_ray
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


@needs_ray
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


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_module_of_the_user_reaches_the_workers(tmp_path, monkeypatch):
    """It lies in the folder where the driver works, which is on nobody's path."""
    maze = "from muzero_jax.envs.registry import make_environment\n\n\n"
    (tmp_path / "maze.py").write_text(maze + "def make():\n    return make_environment('catch')\n")
    monkeypatch.chdir(tmp_path)
    arguments = ["--environment.name=maze:make", "--seeds", "2", "--ray", "local"]
    output = end_sweep(start_sweep(tmp_path, *arguments, "--out", str(tmp_path / "out")))
    assert "2 finished" in output
    assert all(path.exists() for path in (tmp_path / "out").glob("members/*/*/code.json"))
    assert main(["evaluate", str(tmp_path / "out/members/setting-000/seed-0")]) == 0


def test_a_worker_that_lacks_what_it_needs_says_so_in_a_sentence(tmp_path):
    token = tmp_path / "elsewhere" / "token"
    sweep = Sweep("own", tiny(environment__name="no_such_maze:make"), (0,), ({},))
    worker = RayWorker(sweep.to_dict(), token, 1, (tmp_path,), width=0)
    with pytest.raises(
        ConfigError, match=rf"does not find the module 'no_such_maze' in {tmp_path}"
    ):
        list(worker.work())
    axis = (parse_axis(TINY, "learning_rate=1e-3..1e-1:log"),)
    study = Study("tiny", TINY, (0,), "rates", axis, num_trials=1)
    with pytest.raises(RunError, match="does not see the study's folder"):
        list(RayWorker(study.to_dict(), token, 1, (), width=0).work())


def test_a_worker_without_the_folder_is_a_worker_like_any_other(tmp_path, capsys):
    """It is lost with its first run, and another begins that run anew: the table is the same."""
    assert run_sweep(SWEEP, tmp_path / "here", num_devices=1)["finished"] == 2
    ray = FakeRay(lose_at=12)
    counts = _drive(ray, tmp_path / "cluster").counts()
    assert counts["finished"] == 2 and counts["running"] == 0
    assert "a worker was lost; another takes up what it had" in capsys.readouterr().out
    names = [name for name, *_ in ray.messages]
    assert names.count("release") == 2 and names.count("begin") == 3
    cluster, here = (table_without_times(tmp_path / name) for name in ("cluster", "here"))
    assert cluster == here
    assert not [*(tmp_path / "cluster").glob("*.token")]


def test_a_worker_that_is_lost_again_and_again_is_given_up(tmp_path):
    class AlwaysLost(FakeRay):
        def get(self, message: Any) -> Any:
            self.lose()

    with pytest.raises(RunError, match="11 workers were lost in one place"):
        _drive(AlwaysLost(), tmp_path / "cluster")


def test_a_stop_reaches_a_worker_and_its_run_is_saved(tmp_path):
    request = SimpleNamespace(signal_number=None)

    class StopAtFirstChunk(FakeRay):
        def get(self, message: Any) -> Any:
            if message[0] == "tell" and message[2] == "metrics":
                request.signal_number = 15
            return super().get(message)

    with pytest.raises(InterruptedRunError) as stopped:
        _drive(StopAtFirstChunk(), tmp_path / "cluster", Stop(request))
    assert stopped.value.exit_code == 143
    (run_dir,) = (tmp_path / "cluster").glob("members/*/*")
    assert any((run_dir / "checkpoints").iterdir()) and not (run_dir / "result.json").exists()


def test_the_file_that_ends_a_run_is_written_last(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    (there / "checkpoints/64").mkdir(parents=True)
    (there / "checkpoints/64/data").write_bytes(b"\x00\x01")
    (there / "result.json").write_text("{}")
    files, written = _read_files(there), []
    write_bytes = Path.write_bytes

    def remember(path, data):
        written.append(path.name)
        return write_bytes(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", remember)
        _write_files(here, files)
    assert _read_files(here) == files
    assert written[-1].startswith(".result.json.")


@needs_ray
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
