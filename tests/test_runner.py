"""The host's loop: what it writes, when it stops, and what it leaves untouched."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chex
import jax
import pytest
import yaml
from tiny_run import TINY, shared_programs, tiny

from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps
from muzero_jax.cli import main
from muzero_jax.config import ConfigError
from muzero_jax.core.errors import (
    DoesNotFitError,
    InterruptedRunError,
    InvalidRunError,
    NonFiniteError,
    RunError,
    RunLockedError,
)
from muzero_jax.core.keys import evaluation_key, fresh_evaluation_key, run_keys
from muzero_jax.process.signals import StopRequest
from muzero_jax.runs import build as build_module
from muzero_jax.runs import compiled_run, runner
from muzero_jax.runs.build import load_run
from muzero_jax.runs.run_folder import locked, new_run_folder
from muzero_jax.settings import config_from_dict
from muzero_jax.training.evaluation import Evaluate


@pytest.fixture(scope="module", autouse=True)
def compile_once() -> Iterator[None]:
    with shared_programs():
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run that nothing disturbed, and what `train` returned."""
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    return run_dir, runner.train(TINY, run_dir)


def _read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def _without_times(run_dir: Path) -> list[dict[str, Any]]:
    rows = _read_metrics(run_dir)
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def test_run_folder_holds_everything(finished: tuple[Path, dict[str, Any]]) -> None:
    run_dir, result = finished
    assert config_from_dict(yaml.safe_load((run_dir / "config.yaml").read_text())) == TINY
    assert json.loads((run_dir / "result.json").read_text()) == result
    assert (result["env_steps"], result["episodes"], result["seed"]) == (512, 6, 0)
    versions = json.loads((run_dir / "versions.json").read_text())
    assert versions["packages"]["jax"] == jax.__version__
    assert checkpoint_steps(run_dir / "checkpoints") == [384, 512]
    assert (run_dir / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert any((run_dir / "tensorboard").iterdir())
    header, *evaluations = (run_dir / "evaluation.csv").read_text().splitlines()
    assert header.startswith("env_steps,num_updates,train_seconds,episodes,score_mean")
    assert [line.split(",")[0] for line in evaluations] == ["128", "256", "384", "512"]
    assert len((run_dir / "evaluation_scores.csv").read_text().splitlines()) == 1 + 6


def test_metrics_have_one_line_a_chunk(finished: tuple[Path, dict[str, Any]]) -> None:
    rows = _read_metrics(finished[0])
    assert [row["env_steps"] for row in rows] == list(range(64, 513, 64))
    assert rows[0]["num_updates"] < rows[-1]["num_updates"] == finished[1]["num_updates"]
    for name in ("time/train_seconds", "time/compile_seconds", "time/env_steps_per_second"):
        assert rows[0][name] > 0


def test_finished_run_says_so(
    finished: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, result = finished
    assert runner.resume(run_dir) == result
    assert f"{run_dir} is finished: score" in capsys.readouterr().out


def test_load_run_gives_the_trained_agent(finished: tuple[Path, dict[str, Any]]) -> None:
    run = load_run(finished[0])
    assert (run.config, run.num_env_steps) == (TINY, 512)
    assert int(run.agent_state.num_updates) == finished[1]["num_updates"]


def test_train_chunk_is_traced_once_and_evaluations_leave_training_alone(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_train = build_module.make_train

    def make_train_that_is_traced_once(*args: Any, **options: Any) -> Any:
        train = make_train(*args, **options)
        once = chex.assert_max_traces(train.train_chunk, n=1)
        return type(train)(train.init, once, train.learn_metric_names)

    monkeypatch.setattr(build_module, "make_train", make_train_that_is_traced_once)
    monkeypatch.setattr(runner, "build", build_module.build)
    monkeypatch.setattr(runner, "Programs", compiled_run.Programs)
    chex.clear_trace_counter()
    runner.train(tiny(evaluation__interval=0), tmp_path / "run")
    assert _without_times(tmp_path / "run") == _without_times(finished[0])
    assert len((tmp_path / "run" / "evaluation.csv").read_text().splitlines()) == 2


def _send(number: int, stop: StopRequest) -> None:
    """Sends this process a signal, and waits until the listening thread has heard it."""
    os.kill(os.getpid(), number)
    while stop.signal_number is None:
        time.sleep(0.001)


def _requests(monkeypatch: pytest.MonkeyPatch) -> list[StopRequest]:
    """A list that gets every `StopRequest` of the runner."""
    requests: list[StopRequest] = []

    def make(on_first: Any) -> StopRequest:
        requests.append(StopRequest(on_first))
        return requests[-1]

    monkeypatch.setattr(runner, "StopRequest", make)
    return requests


def _stop_after(num_chunks: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends this process a signal while a chunk runs."""
    stops = _requests(monkeypatch)
    train, calls = compiled_run.Programs.train_chunk, 0

    def interrupted(self: Any, state: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == num_chunks:
            _send(number, stops[-1])
        return train(self, state)

    monkeypatch.setattr(compiled_run.Programs, "train_chunk", interrupted)


def test_ctrl_c_saves_and_the_resumed_run_is_the_same(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "run"
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        _stop_after(1, signal.SIGINT, patch)
        with pytest.raises(InterruptedRunError, match="muzero train --resume") as stopped:
            runner.train(TINY, run_dir)
    assert stopped.value.exit_code == 130
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    assert checkpoint_steps(run_dir / "checkpoints") == [64]
    runner.resume(run_dir)
    assert _without_times(run_dir) == _without_times(finished[0])
    times = [row["time/compile_seconds"] for row in _read_metrics(run_dir)]
    assert times[0] < times[1] == times[-1]
    assert "resumed" in json.loads((run_dir / "versions.json").read_text())


def test_evaluation_that_was_stopped_after_is_not_written_twice(
    finished: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_dir, evaluate = tmp_path / "run", Evaluate.each

    def interrupted(self: Any, *args: Any) -> Any:
        _send(signal.SIGTERM, stops[-1])
        return evaluate(self, *args)

    with monkeypatch.context() as patch:
        stops = _requests(patch)
        patch.setattr(Evaluate, "each", interrupted)
        with pytest.raises(InterruptedRunError) as stopped:
            runner.train(tiny(logging__checkpoint_interval=256), run_dir)
        assert stopped.value.exit_code == 143
        assert main(["train", "--resume", str(run_dir)]) == 143
    told = capsys.readouterr().err
    assert f"muzero train --resume {run_dir}" in told and "Traceback" not in told
    assert checkpoint_steps(run_dir / "checkpoints") == [128]
    assert len((run_dir / "evaluation.csv").read_text().splitlines()) == 2
    runner.resume(run_dir)
    assert _evaluations(run_dir) == _evaluations(finished[0])


def _evaluations(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "evaluation.csv").open() as file:
        return [{**row, "train_seconds": ""} for row in csv.DictReader(file)]


def test_second_ctrl_c_aborts_at_once() -> None:
    program = (
        "import os, signal, time\n"
        "from muzero_jax.process.signals import StopRequest\n"
        "with StopRequest(lambda number: print('heard', flush=True)):\n"
        "    for _ in range(2):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(0.5)\n"
        "    time.sleep(30)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20
    )
    assert (ended.returncode, ended.stdout) == (130, "heard\n")


def test_second_sigterm_does_not_abort() -> None:
    with StopRequest(lambda number: None) as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
    assert stop.signal_number == signal.SIGTERM


def test_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    # Too high a learning rate makes the parameters overflow at once.
    config = tiny(optimizer__learning_rate=1e38)
    with pytest.raises(NonFiniteError) as stopped:
        runner.train(config, tmp_path / "run")
    told = str(stopped.value)
    rows = _read_metrics(tmp_path / "run")
    failed_at = rows[-1]["env_steps"]
    assert stopped.value.exit_code == 3
    assert "was not finite at update" in told
    assert f"environment step {failed_at}" in told
    assert any(name in told for name in ("loss/", "policy/", "gradient/", "target/"))
    assert checkpoint_steps(tmp_path / "run" / "failure") == [failed_at]
    assert failed_at not in checkpoint_steps(tmp_path / "run" / "checkpoints")


def test_replay_that_does_not_fit_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(replay__capacity=400_000_000)
    with pytest.raises(DoesNotFitError, match=r"400,000,000 transitions take .* GiB") as refused:
        runner.train(config, tmp_path / "run")
    assert "but the device has" in str(refused.value)
    assert isinstance(refused.value, ConfigError)
    assert not (tmp_path / "run").exists()


def test_later_evaluations_are_others_than_the_runs_own() -> None:
    keys = [evaluation_key(TINY.seed, 512), *run_keys(TINY.seed)]
    keys += [fresh_evaluation_key(TINY.seed, steps) for steps in (512, 0)]
    data = {tuple(jax.random.key_data(key).tolist()) for key in keys}
    assert len(data) == len(keys)


def test_memory_needed_beside_the_state_counts(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = compiled_run.Programs(build_module.build(TINY)).shapes
    barely = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes)) + 1
    monkeypatch.setattr(compiled_run, "device_memory_bytes", lambda device: barely)
    monkeypatch.setattr(runner, "Programs", compiled_run.Programs)
    for init_from in (None, finished[0]):
        with pytest.raises(DoesNotFitError, match="the compiled loop needs"):
            runner.train(TINY, tmp_path / "run", init_from=init_from)
        assert not (tmp_path / "run").exists()


def test_used_folder_is_refused(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds a run already; continue it with --resume"):
        runner.train(TINY, finished[0])
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        runner.train(TINY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_one_process_writes_a_run_folder(finished: tuple[Path, dict[str, Any]]) -> None:
    with locked(finished[0]), pytest.raises(RunLockedError, match="another process"):
        runner.resume(finished[0])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "there is no such folder"),
        ("optimizer: {learning_rat: 1}", "unknown setting optimizer.learning_rat; did you mean"),
        ("seed: [", "cannot be used"),
        ("nonsense", "cannot be used"),
    ],
)
def test_bad_run_folder_is_one_sentence(tmp_path: Path, text: str | None, told: str) -> None:
    run_dir = tmp_path / "run"
    if text is not None:
        run_dir.mkdir()
        (run_dir / "config.yaml").write_text(text)
    with pytest.raises(InvalidRunError, match=told) as error:
        runner.resume(run_dir)
    assert "\n" not in str(error.value)


def test_default_folders_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = []
    for _ in range(3):
        with new_run_folder(TINY, None) as folder:
            folders.append(folder)
    assert len(set(folders)) == 3
    assert all(folder.parent == Path("runs/tiny") for folder in folders)


def test_evaluations_that_are_cut_do_not_end_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], finished: tuple[Path, dict[str, Any]]
) -> None:
    result = runner.train(tiny(evaluation__max_episode_steps=2), tmp_path / "run")
    assert (result["episodes_cut"], result["length_mean"]) == (6, 2.0)
    assert [row["episodes_cut"] for row in _evaluations(tmp_path / "run")] == ["4", "4", "4", "6"]
    told = capsys.readouterr()
    assert told.out.count("did not end within evaluation.max_episode_steps = 2 steps") == 1
    assert "(6 of them cut)" in told.out
    assert _without_times(tmp_path / "run") == _without_times(finished[0])
    assert told.err == ""  # The environment itself says how long an episode may be.


def test_a_refused_run_takes_nothing_of_the_users_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out" / ".git").mkdir(parents=True)
    (tmp_path / "out" / ".env").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for name in ("out", "link", "new"):
        with (
            pytest.raises(ConfigError, match="late"),
            new_run_folder(TINY, tmp_path / name) as made,
        ):
            (made / "checkpoints").mkdir()
            (made / "metrics.jsonl").write_text("{}")
            raise ConfigError("late")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".env", ".git"]
    assert not (tmp_path / "new").exists()


def test_an_environment_that_fails_while_it_runs_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Any, state: Any) -> Any:
        raise jax.errors.JaxRuntimeError("INTERNAL: CpuCallback error: server gone\nand more")

    monkeypatch.setattr(compiled_run.Programs, "train_chunk", fails)
    with pytest.raises(RunError, match=r"server gone.* with: muzero train --resume") as told:
        runner.train(TINY, tmp_path / "run")
    assert "\n" not in str(told.value)
