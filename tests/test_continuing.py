"""Going on with a run: for more steps, from another run, without checkpoints, on a full disk."""

import csv
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny import gradient_mean
from tiny_run import tiny

from muzero_jax.checkpoints.checkpoint import CheckpointWriter, restore
from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps
from muzero_jax.cli import main
from muzero_jax.config import ConfigError
from muzero_jax.core.errors import (
    CheckpointMismatchError,
    DiskError,
    InvalidRunError,
    LostCheckpointsError,
    NoCheckpointError,
)
from muzero_jax.runs import continuing, run_folder, run_writer, runner
from muzero_jax.runs.build import build, load_run
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.runs.initial_agent import load_initial_agent, load_recorded_agent
from muzero_jax.runs.run_start import BestAgent, split_state
from muzero_jax.tracking import tracker

CONSTANT: dict[str, Any] = {"optimizer__schedule": "constant", "optimizer__warmup_updates": 2}
LONG = tiny(**CONSTANT)
SHORT = tiny(**CONSTANT, training__num_env_steps=256)
SEEDED = tiny(**CONSTANT, training__num_env_steps=256, seed=5, logging__checkpoints_kept=3)
MORE = {"training.num_env_steps": 512}


pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 512 steps that nothing disturbed."""
    run_dir = tmp_path_factory.mktemp("runs") / "long"
    runner.train(LONG, run_dir)
    return run_dir


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 256 steps, of which tests take copies."""
    run_dir = tmp_path_factory.mktemp("runs") / "short"
    runner.train(SHORT, run_dir)
    return run_dir


@pytest.fixture
def copy(short_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished short run."""
    return Path(shutil.copytree(short_run, tmp_path / "run"))


def _reports(run_dir: Path) -> tuple[Any, ...]:
    """Everything that a run reports, without times."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    metrics = [{k: v for k, v in json.loads(x).items() if "time/" not in k} for x in lines]
    with (run_dir / "evaluation.csv").open() as file:
        evaluations = [{**row, "train_seconds": ""} for row in csv.DictReader(file)]
    result = json.loads((run_dir / "result.json").read_text())
    result = {k: v for k, v in result.items() if not k.endswith("_seconds")}
    return metrics, evaluations, result, (run_dir / "evaluation_scores.csv").read_text()


def _state(run_dir: Path) -> list[bytes]:
    """Every array of the newest checkpoint."""
    shapes = Programs(build(LONG)).shapes
    groups = {**split_state(shapes), "best": shapes.agent}
    leaves = jax.tree.leaves(restore(run_dir / "checkpoints", groups).groups)
    return [np.asarray(_plain(leaf)).tobytes() for leaf in leaves]


def _plain(leaf: Any) -> Any:
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def test_an_extended_run_is_the_run_that_was_planned_that_long(
    copy: Path, long_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = (copy / "result.json").read_text()
    scores = (copy / "evaluation_scores.csv").read_text()
    assert main(["train", "--resume", str(copy), "--training.num_env_steps", "512"]) == 0
    assert _reports(copy) == _reports(long_run)
    assert _state(copy) == _state(long_run)
    assert (copy / "config.yaml").read_text() == (long_run / "config.yaml").read_text()
    assert (copy / "result-256.json").read_text() == earlier
    assert (copy / "evaluation_scores-256.csv").read_text() == scores
    assert "the run goes on to 512 environment steps; schedules" in capsys.readouterr().out


class _Killed(BaseException):
    """Stands for a SIGKILL in these tests."""


def _die(*_: Any, **__: Any) -> None:
    raise _Killed


@pytest.mark.parametrize("where", ["copy", "rename", "config", "versions"])
def test_a_kill_while_a_run_is_extended_loses_neither_result(
    copy: Path, long_run: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    before = _reports(copy)
    with monkeypatch.context() as patch:
        if where == "rename":
            patch.setattr(continuing, "_under_steps", _dying_second_call(continuing._under_steps))
        else:
            module, name = {
                "copy": (continuing, "write_text"),
                "config": (continuing, "write_config"),
                "versions": (run_writer, "write_versions"),
            }[where]
            patch.setattr(module, name, _die)
        with pytest.raises(_Killed):
            runner.resume(copy, changes=MORE)
    kept = [copy / name for name in ("result.json", "result-256.json") if (copy / name).exists()]
    assert json.loads(kept[-1].read_text())["env_steps"] == 256
    # Without the option, the run is the old one, or the longer one once its settings are written.
    if where != "versions":
        runner.resume(copy)
        assert _reports(copy) == before
    runner.resume(copy, changes=MORE)
    assert _reports(copy) == _reports(long_run)
    assert json.loads((copy / "result-256.json").read_text())["env_steps"] == 256


def _dying_second_call(function: Callable[..., Any]) -> Callable[..., Any]:
    calls: list[int] = []

    def call(*args: Any) -> Any:
        calls.append(0)
        if len(calls) == 2:
            raise _Killed
        return function(*args)

    return call


def test_an_extended_run_is_unfinished_until_it_ends(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    train_chunk = Programs.train_chunk

    def watched(self: Programs, state: Any) -> Any:
        seen.append((copy / "result.json").exists())
        return train_chunk(self, state)

    monkeypatch.setattr(Programs, "train_chunk", watched)
    runner.resume(copy, changes=MORE)
    assert seen == [False] * 4
    assert (copy / "result.json").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 1}, "with the settings it has; only --training.num_env_steps, .* found --seed"),
        ({"training.num_env_steps": 128}, "can only be raised .* has 256, found 128"),
        ({"evaluation.max_episode_steps": 0}, "evaluation.max_episode_steps must be at least 1"),
        ({"evaluation.num_episodes": 7}, "is finished after 256 environment steps; only a higher"),
        ({"training.num_env_steps": 256, "evaluation.interval": 0}, "is finished after 256"),
    ],
)
def test_changes_that_cannot_be_made_change_nothing(
    copy: Path, changes: dict[str, Any], told: str
) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in copy.rglob("*"))
    with pytest.raises(ConfigError, match=told) as error:
        runner.resume(copy, changes=changes)
    assert "\n" not in str(error.value)
    after = sorted((path, path.stat().st_mtime_ns) for path in copy.rglob("*"))
    assert [x for x in after if ".lock" not in x[0].name] == [
        x for x in before if ".lock" not in x[0].name
    ]


def _unfinished(copy: Path) -> Path:
    """The run as it was at its checkpoint of 128 steps."""
    shutil.rmtree(copy / "checkpoints/256")
    (copy / "result.json").unlink()
    return copy


def test_other_evaluations_leave_training_as_it_is(copy: Path, short_run: Path) -> None:
    args = ["--evaluation.final_num_episodes", "9", "--evaluation.max_episode_steps=3"]
    assert main(["train", "--resume", str(_unfinished(copy)), *args]) == 0
    metrics, _, result, _ = _reports(copy)
    assert metrics == _reports(short_run)[0]
    assert (result["episodes"], result["episodes_cut"]) == (9, 9)
    assert run_folder.load_config(copy).evaluation.final_num_episodes == 9


def test_a_time_limit_can_be_given_to_a_run_that_had_none(copy: Path) -> None:
    assert main(["train", "--resume", str(_unfinished(copy)), "--environment.time_limit", "3"]) == 0
    assert json.loads((copy / "result.json").read_text())["length_mean"] == 3.0
    last = json.loads((copy / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["episode/length"] == 3.0
    # Without the option the limit stays, because it is now a setting of the run.
    assert load_run(copy).env.spec.max_episode_steps == 3


def test_a_run_killed_after_its_time_limit_changed_goes_on(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings then hold the limit, and the checkpoint the state of a run without a limit."""
    whole = Path(shutil.copytree(_unfinished(copy), tmp_path / "whole"))
    limited = {"environment.time_limit": 3}
    runner.resume(whole, changes=limited)
    with monkeypatch.context() as patch:
        patch.setattr(run_writer, "write_versions", _die)
        with pytest.raises(_Killed):
            runner.resume(copy, changes=limited)
    assert run_folder.load_config(copy).environment.time_limit == 3
    runner.resume(copy)
    assert _reports(copy) == _reports(whole)


def test_a_time_limit_is_not_taken_away_from_steps_that_it_cut(copy: Path) -> None:
    limited = tiny(**CONSTANT, training__num_env_steps=256, environment__time_limit=3)
    run_folder.write_config(_unfinished(copy), limited)
    with pytest.raises(ConfigError, match=r"can be changed but not taken away .* has 3, catch has"):
        runner.resume(copy, changes={"environment.time_limit": 0})
    assert run_folder.load_config(copy) == limited


def test_a_finished_run_without_checkpoints_is_finished(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copy / "checkpoints")
    assert main(["train", "--resume", str(copy)]) == 0
    assert "is finished" in capsys.readouterr().out
    assert main(["train", "--resume", str(copy), "--training.num_env_steps", "512"]) == 2
    assert "its checkpoints are gone" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{}", '{"a": 1}', '{"env_steps": "many"}', "[]", "{"])
def test_a_damaged_result_is_one_sentence(
    copy: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (copy / "result.json").write_text(text)
    assert main(["train", "--resume", str(copy)]) == 2
    told = capsys.readouterr().err
    assert "result.json is damaged" in told
    assert told.count("\n") == 1


def test_a_run_without_its_checkpoints_is_refused(
    copy: Path, capsys: pytest.CaptureFixture[str], short_run: Path
) -> None:
    _unfinished(copy)
    shutil.rmtree(copy / "checkpoints")
    reported = (copy / "metrics.jsonl").read_text()
    assert main(["train", "--resume", str(copy)]) == 2
    told = capsys.readouterr().err
    assert "has been trained, but its checkpoints are gone" in told
    assert told.count("\n") == 1
    assert (copy / "metrics.jsonl").read_text() == reported
    assert main(["train", "--resume", str(copy), "--restart"]) == 0
    assert _reports(copy) == _reports(short_run)


def test_lost_checkpoints_are_known_without_the_marker(copy: Path) -> None:
    _unfinished(copy)
    shutil.rmtree(copy / "checkpoints")
    (copy / ".has_checkpoints").unlink()
    with pytest.raises(LostCheckpointsError, match="--restart"):
        runner.resume(copy)


def test_a_run_that_never_had_a_checkpoint_begins_anew(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(_unfinished(copy) / "checkpoints")
    with pytest.raises(LostCheckpointsError, match="--restart"):
        runner.resume(copy)
    (copy / ".has_checkpoints").unlink()
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text(lines[0])  # Now it looks killed before any checkpoint.
    continuing.check_not_lost(copy, SHORT)
    monkeypatch.setattr(runner, "_execute", lambda *_, **__: {"went": "on"})
    assert runner.resume(copy) == {"went": "on"}


def test_restart_is_not_for_runs_that_can_go_on(copy: Path) -> None:
    _unfinished(copy)
    with pytest.raises(InvalidRunError, match=r"without it .* goes on from checkpoint 128"):
        runner.resume(copy, restart=True)
    assert checkpoint_steps(copy / "checkpoints") == [128]


def test_a_checkpoint_under_a_later_number_is_not_trusted(copy: Path) -> None:
    _unfinished(copy)
    (copy / "checkpoints/128").rename(copy / "checkpoints/192")
    with pytest.raises(NoCheckpointError, match="it was saved as checkpoint 128") as error:
        runner.resume(copy)
    assert error.value.exit_code == 2


def test_other_network_sizes_are_one_sentence(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _unfinished(copy)
    run_folder.write_config(copy, tiny(**CONSTANT, network__hidden_sizes=[16]))
    for args in (["train", "--resume", str(copy)], ["evaluate", str(copy)]):
        assert main(args) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert told.startswith("error: ")
        assert "does not fit the settings and the environment" in told
        assert "was saved as float32[8, 3], and float32[16, 3] is needed" in told


def test_a_new_run_begins_with_what_another_has_learned(short_run: Path, tmp_path: Path) -> None:
    source, programs = load_run(short_run, "128"), runner.Programs(runner.build(SEEDED))
    initial = load_initial_agent(short_run, "128", programs.whole_shapes.agent)
    state = initial.put_into(programs.init([SEEDED]))
    for own, learned in zip(
        jax.tree.leaves(state.agent.params), jax.tree.leaves(source.agent_state.params), strict=True
    ):
        np.testing.assert_array_equal(own, learned)
    assert int(state.agent.num_updates) == 0
    gradients = jax.tree.leaves(gradient_mean(state.agent.optimizer))
    assert gradients and all(float(abs(x).max()) == 0.0 for x in gradients)

    run_dir = tmp_path / "new"
    runner.train(SEEDED, run_dir, init_from=short_run, checkpoint="128")
    origin = json.loads((run_dir / "versions.json").read_text())["init_from"]
    assert (origin["run"], origin["checkpoint"]) == (str(short_run), "128")
    assert checkpoint_steps(run_dir / "checkpoints") == [0, 128, 256]
    assert int(load_run(run_dir, "0").agent_state.num_updates) == 0


def test_an_agent_of_another_shape_is_refused_with_both(short_run: Path, tmp_path: Path) -> None:
    config = tiny(network__hidden_sizes=[16])
    with pytest.raises(
        CheckpointMismatchError,
        match=r"was saved as float32\[8, 3\], and float32\[16, 3\] is needed",
    ):
        runner.train(config, tmp_path / "new", init_from=short_run)
    assert not (tmp_path / "new").exists()


def test_a_run_begins_with_the_same_agent_again_when_it_was_killed_first(
    short_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.train(SEEDED, tmp_path / "whole", init_from=short_run)
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointWriter, "save", _die)
        with pytest.raises(_Killed):
            runner.train(SEEDED, tmp_path / "killed", init_from=short_run)
    runner.resume(tmp_path / "killed")
    assert _reports(tmp_path / "killed") == _reports(tmp_path / "whole")


def test_a_run_does_not_begin_anew_with_another_best_agent(short_run: Path, copy: Path) -> None:
    _unfinished(copy)
    shutil.rmtree(copy / "checkpoints")
    best, shapes = load_run(short_run, "best").num_env_steps, Programs(build(SHORT)).shapes
    for env_steps in (best, best + 1):
        origin = {"run": str(short_run), "checkpoint": "best", "env_steps": env_steps}
        (copy / "versions.json").write_text(json.dumps({"init_from": origin}))
        if env_steps == best:
            assert load_recorded_agent(copy, shapes.agent) is not None
    with pytest.raises(InvalidRunError, match=f"after {best + 1} .* now its best .* after {best};"):
        runner.resume(copy, restart=True)


def test_an_agent_whose_score_is_no_number_is_not_the_best_for_long() -> None:
    first = BestAgent(None, 64, float("nan"))
    assert first.is_behind(-5.0)
    assert not BestAgent(None, 64, 1.0).is_behind(float("nan"))
    assert not BestAgent(None, 64, 1.0).is_behind(1.0)


def test_reports_are_on_disk_before_a_run_is_finished(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, write = tracker.Tracker.sync, run_writer.write_json
    with monkeypatch.context() as patch:
        patch.setattr(tracker.Tracker, "sync", lambda own: (calls.append("sync"), sync(own))[1])
        patch.setattr(
            tracker.Tracker,
            "write_evaluation",
            lambda own, row: calls.append("evaluation"),
        )
        patch.setattr(run_writer, "write_json", lambda *x: (calls.append("result"), write(*x))[1])
        runner.resume(_unfinished(copy))
    assert calls[-3:] == ["evaluation", "sync", "result"]


def test_checkpoints_are_closed_when_the_reports_cannot_be_opened(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    close = CheckpointWriter.close
    with monkeypatch.context() as patch:
        patch.setattr(run_writer, "Tracker", _full)
        patch.setattr(CheckpointWriter, "close", lambda own: (closed.append(True), close(own))[1])
        with pytest.raises(DiskError):
            runner.resume(_unfinished(copy))
    assert closed == [True]


@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_a_late_mistake_takes_no_checkpoint_with_it(tmp_path: Path, has_checkpoint: bool) -> None:
    with (
        pytest.raises(ConfigError, match="late"),
        run_folder.new_run_folder(LONG, tmp_path / "run") as run_dir,
    ):
        (run_dir / "checkpoints" / ("128" if has_checkpoint else "128.tmp")).mkdir(parents=True)
        raise ConfigError("late")
    assert (tmp_path / "run/config.yaml").exists() == has_checkpoint


def test_steps_and_best_can_be_asked_for(
    short_run: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_run(short_run, "128").num_env_steps == 128
    with (short_run / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    best = max(rows, key=lambda row: float(row["score_mean"]))
    run = load_run(short_run, "best")
    assert run.num_env_steps == int(best["env_steps"])
    assert main(["evaluate", str(short_run), "--checkpoint", "130", "--json"]) == 2
    assert "found '130'; there are 128, 256" in capsys.readouterr().err
    with pytest.raises(InvalidRunError, match=r"must be best or the number .* found 'last'"):
        load_run(short_run, "last")
    (copy / "result.json").unlink()  # Then an earlier evaluation is the best.
    if len(rows) == 2:
        assert load_run(copy, "best").num_env_steps == 128
        same = load_run(copy, "128").agent_state
        for one, other in zip(
            jax.tree.leaves(load_run(copy, "best").agent_state), jax.tree.leaves(same), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_an_evaluation_may_be_of_another_variant(
    short_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["evaluate", str(short_run), "--episodes", "3", "--json"]
    assert main([*args, "--environment.time_limit", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["length_mean"] == 3.0
    cut = ["--evaluation.max_episode_steps", "2"]
    assert main([*args, *cut, "--environment.name", "catch:rows=10:columns=5"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["episodes_cut"], told["environment"]) == (3, "catch:rows=10:columns=5")
    assert main([*args, "--environment.name", "tic_tac_toe"]) == 2
    told = capsys.readouterr().err
    assert "was trained on catch with observation_shape (10, 5, 1), action_space Discrete" in told
    assert "but tic_tac_toe has observation_shape (3, 3, 2), action_space Discrete" in told


def _full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (tracker._AppendFile, "append"),
        (tracker._AppendFile, "sync"),
        (tracker._TensorBoard, "write"),
        (CheckpointWriter, "save"),
        (run_writer, "write_versions"),
        (run_writer, "write_scores"),
        (run_writer, "write_json"),
    ],
)
def test_a_full_disk_is_one_sentence_with_the_command_that_goes_on(
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    short_run: Path,
    target: Any,
    name: str,
) -> None:
    _unfinished(copy)
    with monkeypatch.context() as patch:
        patch.setattr(target, name, _full)
        assert main(["train", "--resume", str(copy)]) == 1
    told = capsys.readouterr().err
    assert told == (
        f"error: {copy} cannot be written: No space left on device; when that is mended, continue "
        f"with: muzero train --resume {copy}\n"
    )
    runner.resume(copy)
    assert _reports(copy) == _reports(short_run)


def test_a_read_only_folder_is_one_sentence(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(run_folder, "locked_file", refuse)
    with pytest.raises(DiskError, match="cannot be written: Read-only file system"):
        runner.resume(copy, changes=MORE)
