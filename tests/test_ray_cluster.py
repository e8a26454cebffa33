"""A sweep on a real Ray cluster of two worker processes, one of which is killed on the way."""

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent import futures
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
from muzero_jax.sweeps.ray_cluster import RayWorker, _WorkerThread
from muzero_jax.sweeps.runner import run_sweep
from muzero_jax.sweeps.search_space import parse_axis
from muzero_jax.sweeps.sweep_progress import Stop, SweepProgress

pytestmark = pytest.mark.usefixtures("shared_programs")
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


class LostError(Exception):
    """What Ray raises where a worker was lost."""


class TaskError(Exception):
    """What Ray raises where a worker has raised an error, its cause."""

    def __init__(self, cause: BaseException):
        self.cause = cause


class FakeRay:
    """A cluster in this process: the driver's calls reach a worker as they are, in threads.

    Args:
      lose_at: the worker is lost with its message of that number; never where 0.
    """

    exceptions = SimpleNamespace(RayTaskError=TaskError, RayActorError=LostError)

    def __init__(self, lose_at: int = 0):
        self.lose_at, self.names = lose_at, list[str]()
        self.pool = futures.ThreadPoolExecutor()
        self.worker: RayWorker
        self.work: futures.Future[Any]

    def wait(self, references: Any, timeout: float) -> Any:
        return futures.wait(references, timeout)

    def get(self, found: Any) -> Any:
        if isinstance(found, futures.Future):
            if (error := found.exception()) is not None:
                raise TaskError(error)
            return found.result()
        for number, (name, *_) in enumerate(found, len(self.names) + 1):
            self.names.append(name)
            if number == self.lose_at:
                self.lose()
        return found

    def lose(self) -> None:
        """Ends the worker's thread as well, which in a real cluster its process takes with it."""
        self.worker.exchange(9)
        futures.wait([self.work])
        raise LostError

    def handle(self, worker: RayWorker) -> Any:
        self.worker = worker

        def work() -> Any:
            self.work = self.pool.submit(worker.work)
            return self.work

        return SimpleNamespace(
            work=SimpleNamespace(remote=work), exchange=SimpleNamespace(remote=worker.exchange)
        )


def _drive(
    ray: FakeRay, folder: Path, stop: Stop | None = None, sweep: Sweep | Study = SWEEP
) -> SweepProgress:
    """Runs a sweep in `folder` by one worker at a time."""
    folder.mkdir(exist_ok=True)
    token = folder / "token"
    token.touch()

    def make_worker() -> Any:
        return ray.handle(RayWorker(sweep.to_dict(), token, 1, (), width=0))

    stop = stop or Stop(SimpleNamespace(signal_number=None))
    progress = SweepProgress(folder, sweep, "a sweep")
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
def test_a_killed_worker_s_runs_are_taken_up_by_another(tmp_path, monkeypatch):
    """Their environment lies in the folder where the driver works, which is on nobody's path."""
    maze = "from muzero_jax.envs.registry import make_environment\n\n\n"
    (tmp_path / "maze.py").write_text(maze + "def make():\n    return make_environment('catch')\n")
    monkeypatch.chdir(tmp_path)
    sweep = Sweep("tiny", tiny(environment__name="maze:make"), (0, 1), RATES)
    run_sweep(sweep, tmp_path / "here", num_devices=1)
    arguments = ["--environment.name=maze:make", "--seeds", "2", "--set", "learning_rate=1e-3,1e-2"]
    folder = tmp_path / "cluster"
    process = start_sweep(tmp_path, *arguments, "--ray", "local", "--out", str(folder))
    wait_for("members/*/*/checkpoints/*", folder, 1, process)
    os.kill(next(_workers()), signal.SIGKILL)
    output = end_sweep(process)
    assert "a worker was lost; another takes up what it had" in output
    assert "on 2 Ray workers (CPU)" in output
    assert table_without_times(folder) == table_without_times(tmp_path / "here")
    assert not list(folder.glob(".*.token"))
    assert all((path / "code.json").exists() for path in folder.glob("members/*/*"))
    assert main(["evaluate", str(folder / "members/setting-000/seed-0")]) == 0


def test_a_study_over_a_cluster_runs_every_trial_once(tmp_path):
    space = (parse_axis(TINY, "learning_rate=1e-3..1e-1:log"),)
    study = Study("tiny", TINY, (0,), "rates", space, num_trials=2, pruner="none")
    assert _drive(FakeRay(), tmp_path / "study", sweep=study).counts()["finished"] == 2
    rows = table_without_times(tmp_path / "study")
    assert [row["setting"] for row in rows] == ["0", "1"]
    assert len({row["optimizer.learning_rate"] for row in rows}) == 2


def test_a_worker_that_lacks_what_it_needs_says_so_in_a_sentence(tmp_path):
    sweep = Sweep("own", tiny(environment__name="no_such_maze:make"), (0,), ({},))
    worker = RayWorker(sweep.to_dict(), tmp_path / "token", 1, (tmp_path,), width=0)
    told = rf"does not find the module 'no_such_maze' in {tmp_path}"
    with pytest.raises(ConfigError, match=told):
        worker.work()
    with pytest.raises(ConfigError, match=r"does not see the sweep's folder .*/nowhere; put it"):
        RayWorker(SWEEP.to_dict(), tmp_path / "nowhere/token", 1, (), width=0).work()


def test_what_a_lost_worker_has_left_is_taken_up(tmp_path, capsys):
    """The worker is lost with its first run; the table is that of a sweep of one process."""
    assert run_sweep(SWEEP, tmp_path / "here", num_devices=1)["finished"] == 2
    ray = FakeRay(lose_at=12)
    counts = _drive(ray, tmp_path / "cluster").counts()
    assert counts["finished"] == 2 and counts["running"] == 0
    assert "a worker was lost; another takes up what it had" in capsys.readouterr().out
    assert ray.names.count("begin") == 3
    cluster, here = (table_without_times(tmp_path / name) for name in ("cluster", "here"))
    assert cluster == here


def test_a_worker_that_is_lost_again_and_again_is_given_up(tmp_path):
    class AlwaysLost(FakeRay):
        def get(self, found: Any) -> Any:
            self.lose()

    with pytest.raises(RunError, match="11 workers were lost in one place"):
        _drive(AlwaysLost(), tmp_path / "cluster")


def test_a_stop_reaches_a_worker_and_its_run_is_saved(tmp_path):
    request = SimpleNamespace(signal_number=None)

    class StopAtFirstChunk(FakeRay):
        def get(self, found: Any) -> Any:
            if isinstance(found, list) and any(message[2:3] == ("metrics",) for message in found):
                request.signal_number = 15
            return super().get(found)

    with pytest.raises(InterruptedRunError) as stopped:
        _drive(StopAtFirstChunk(), tmp_path / "cluster", Stop(request))
    assert stopped.value.exit_code == 143
    (run_dir,) = (tmp_path / "cluster").glob("members/*/*")
    assert any((run_dir / "checkpoints").iterdir()) and not (run_dir / "result.json").exists()


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
