"""The end of a run: the score of record, the last parameters' score, and the best agent's."""

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest
from payout import averaged_after, last_after
from tiny import moment_of, muzero_agent, tiny_config, tiny_spec
from tiny_run import tiny

from muzero_jax.checkpoints.checkpoint import restore
from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps
from muzero_jax.cli import main
from muzero_jax.config import ExperimentConfig, traced_settings
from muzero_jax.core.errors import InterruptedRunError
from muzero_jax.core.keys import (
    best_evaluation_key,
    evaluation_key,
    fresh_evaluation_key,
    last_evaluation_key,
    run_keys,
    to_numbers,
)
from muzero_jax.envs.base import make_timestep
from muzero_jax.process.signals import StopRequest
from muzero_jax.reports.sweep_table import read_member, read_sweep
from muzero_jax.runs import runner
from muzero_jax.runs.build import build
from muzero_jax.runs.run_start import split_state
from muzero_jax.runs.run_writer import RunWriter
from muzero_jax.settings import apply_settings
from muzero_jax.sweeps import runner as sweep_runner
from muzero_jax.sweeps.definition import Sweep
from muzero_jax.training.evaluation import Evaluate

# Eight updates of 16 steps each; evaluations after two, four, six and eight of them.
STEPS = 16
PAYOUT = apply_settings(
    ExperimentConfig(agent="payout:AVERAGING"),
    {
        "name": "payout",
        "environment": {"name": "payout:Payout"},
        "training": {
            "num_env_steps": 8 * STEPS,
            "num_envs": 4,
            "rollout_length": 4,
            "iterations_per_chunk": 1,
        },
        # Equal keys would make equal episodes.
        "evaluation": {"interval": 32, "num_episodes": 4, "final_num_episodes": 4, "num_envs": 4},
        "logging": {"checkpoint_interval": 32, "checkpoints_kept": 9, "tensorboard": False},
    },
)
OTHERS = {"last_score_mean", "last_score_std", "best_score_mean", "best_score_std"}
OTHERS |= {"best_env_steps"}


pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of an agent that averages, of which tests take copies."""
    run_dir = tmp_path_factory.mktemp("runs") / "paid"
    runner.train(PAYOUT, run_dir)
    return run_dir


def _result(run_dir: Path) -> dict[str, Any]:
    result = json.loads((run_dir / "result.json").read_text())
    return {name: x for name, x in result.items() if not name.endswith("_seconds")}


def _evaluations(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "evaluation.csv").open() as file:
        return [{**row, "train_seconds": ""} for row in csv.DictReader(file)]


def _scores(result: dict[str, Any]) -> dict[str, float]:
    """What was held in each final evaluation, without the share that the task adds."""
    names = ("score_mean", "last_score_mean", "best_score_mean")
    return {name: math.floor(result[name]) for name in names if name in result}


def _expected(peak: int) -> dict[str, float]:
    """What an agent with that peak holds: its average, its last parameters and its best average."""
    return {
        "score_mean": averaged_after(8, peak),
        "last_score_mean": last_after(8, peak),
        "best_score_mean": averaged_after(peak, peak),
    }


def test_a_result_tells_three_agents_apart(paid: Path) -> None:
    result = _result(paid)
    assert (
        _scores(result)
        == _expected(4)
        == {
            "score_mean": 604.0,
            "last_score_mean": 148.0,
            "best_score_mean": 1004.0,
        }
    )
    assert (result["best_env_steps"], result["env_steps"]) == (4 * STEPS, 8 * STEPS)
    evaluated = [float(row["score_mean"]) for row in _evaluations(paid)]
    assert [math.floor(x) for x in evaluated] == [804, 1004, 804, 604]
    assert result["score_mean"] == pytest.approx(evaluated[-1])


def test_each_final_evaluation_has_episodes_of_its_own(paid: Path) -> None:
    """The best agent in particular meets other episodes than those it was chosen by."""
    result = _result(paid)
    means = [float(row["score_mean"]) for row in _evaluations(paid)]
    means += [result["last_score_mean"], result["best_score_mean"]]
    assert len({round(mean % 1.0, 3) for mean in means}) == len(means)
    spreads = [result[f"{name}score_std"] for name in ("", "last_", "best_")]
    assert len({round(spread, 4) for spread in spreads}) == 3
    assert all(0.0 < spread < 0.5 for spread in spreads)


def test_keys_of_final_evaluations_are_their_own() -> None:
    makers = (evaluation_key, fresh_evaluation_key, last_evaluation_key, best_evaluation_key)
    keys = [make(seed, steps) for make in makers for seed in (0, 1) for steps in (0, 1, 2**32 + 1)]
    keys += [key for seed in (0, 1) for key in run_keys(seed)]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == len(keys)


def test_the_closing_lines_tell_them(
    paid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner.resume(paid)
    told = capsys.readouterr().out
    runner.train(PAYOUT, tmp_path / "again")
    result = _result(paid)
    last = f"{result['last_score_mean']:.4g} ± {result['last_score_std']:.3g}"
    best = f"{result['best_score_mean']:.4g} ± {result['best_score_std']:.3g}"
    sentence = (
        f"In fresh episodes, the last parameters, without averaging, score {last} and the best "
        f"agent, after 64 environment steps, scores {best}."
    )
    assert sentence in told and sentence in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"agent": "payout:PLAIN"}, {"score_mean": 148.0, "best_score_mean": 148.0}),
        ({"evaluation.interval": 0}, {"score_mean": 604.0, "last_score_mean": 148.0}),
        ({"agent": "payout:PLAIN", "evaluation.interval": 0}, {"score_mean": 148.0}),
    ],
    ids=["no average", "no earlier evaluation", "neither"],
)
def test_what_a_run_does_not_have_is_absent(
    changes: dict[str, Any],
    expected: dict[str, float],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The last agent may be the best; it is then evaluated with fresh episodes too."""
    config = apply_settings(PAYOUT, changes)
    result = runner.train(config, tmp_path / "run")
    assert _scores(result) == expected
    own = {name for name in OTHERS if name.rpartition("_score")[0] + "_score_mean" in expected}
    assert OTHERS & set(result) - {"best_env_steps"} == own
    assert result.get("best_env_steps") == (8 * STEPS if "best_score_mean" in expected else None)
    if "best_score_mean" in expected:
        assert result["best_score_mean"] != result["score_mean"]
    capsys.readouterr()
    runner.resume(tmp_path / "run")
    assert ("In fresh episodes" in capsys.readouterr().out) == (len(expected) > 1)


def test_runs_side_by_side_tell_each_its_own(tmp_path: Path) -> None:
    """Three runs in two calls of two: the last place of the second call is filled."""
    peaks = (2, 4, 6)
    settings = tuple({"peak": float(peak)} for peak in peaks)
    sweep = Sweep("payout", PAYOUT, (0,), settings)
    counts = sweep_runner.run_sweep(sweep, tmp_path / "sweep", width=2, num_devices=1)
    assert counts["finished"] == 3
    rows = read_sweep(tmp_path / "sweep").rows
    for peak, row in zip(peaks, rows, strict=True):
        assert _scores(dict(row)) == _expected(peak)
        assert row["best_env_steps"] == peak * STEPS
        assert row == read_member(tmp_path / "sweep" / row["folder"])
    with (tmp_path / "sweep/table.csv").open() as file:
        (header, *_) = csv.reader(file)
    assert set(header) >= OTHERS


def test_shards_of_a_run_are_one_agent(tmp_path: Path) -> None:
    config = apply_settings(PAYOUT, {"training.num_shards": 2})
    result = runner.train(config, tmp_path / "run")
    assert _scores(result) == _expected(4)


def _before_evaluation(number: int, do: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Does something before the evaluation of that number, counted from 1."""
    evaluate, calls = Evaluate.each, 0

    def each(self: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            do()
        return evaluate(self, *args)

    patch.setattr(Evaluate, "each", each)


class _Killed(BaseException):
    """Ends a process as no handler of an error would."""


def _die() -> None:
    raise _Killed


@pytest.mark.parametrize("number", [4, 5, 6], ids=["record", "last", "best"])
def test_a_run_that_dies_in_a_final_evaluation_makes_them_again(
    paid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch:
        _before_evaluation(number, _die, patch)
        with pytest.raises(_Killed):
            runner.train(PAYOUT, tmp_path / "run")
    assert not (tmp_path / "run/result.json").exists()
    runner.resume(tmp_path / "run")
    assert _result(tmp_path / "run") == _result(paid)
    assert _evaluations(tmp_path / "run") == _evaluations(paid)


@pytest.mark.parametrize(("number", "finishes"), [(4, False), (5, False), (6, True)])
def test_a_run_is_stopped_between_final_evaluations(
    paid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, finishes: bool
) -> None:
    asked: list[int] = []
    with monkeypatch.context() as patch:
        number_asked = property(lambda own: asked[0] if asked else None, lambda own, number: None)
        patch.setattr(StopRequest, "signal_number", number_asked, raising=False)
        _before_evaluation(number, lambda: asked.append(15), patch)
        if finishes:
            runner.train(PAYOUT, tmp_path / "run")
        else:
            with pytest.raises(InterruptedRunError, match=r"saved at 128 .* --resume"):
                runner.train(PAYOUT, tmp_path / "run")
    assert (tmp_path / "run/result.json").exists() == finishes
    assert checkpoint_steps(tmp_path / "run/checkpoints")[-1] == 8 * STEPS
    runner.resume(tmp_path / "run")
    assert _result(tmp_path / "run") == _result(paid)
    assert _evaluations(tmp_path / "run") == _evaluations(paid)


def test_evaluate_plays_with_the_agent_that_is_asked_for(
    paid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"": 604, "--acting average": 604, "--acting last": 148, "--checkpoint best": 1004}
    asked["--checkpoint best --acting last"] = 144
    for options, expected in asked.items():
        assert main(["evaluate", str(paid), "--episodes", "3", "--json", *options.split()]) == 0
        assert math.floor(json.loads(capsys.readouterr().out)["score_mean"]) == expected, options


# MuZero.

AVERAGED = tiny(optimizer__average_updates=4)


def test_muzero_acts_last_with_its_last_parameters() -> None:
    averaging, plain = tiny_config(optimizer={"average_updates": 4}), tiny_config()
    agent, other = muzero_agent(averaging, tiny_spec()), muzero_agent(plain, tiny_spec())
    keys = jax.random.split(jax.random.key(0), 3)
    first = jax.jit(other.init)(keys[0], traced_settings(plain))
    # A fresh network values all states alike, and equal bins are worth exactly 0.
    rng = np.random.default_rng(0)
    noisy = jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype(x.dtype), first.params)
    first = first.replace(params=noisy)
    second = first.replace(params=jax.tree.map(lambda x: -x, first.params))
    state = jax.jit(agent.init)(keys[0], traced_settings(averaging))
    state = state.replace(params=first.params, average_params=second.params)
    observation = jax.random.normal(keys[1], (5, 2))
    moment = moment_of(jax.vmap(lambda x: make_timestep(x, num_actions=3))(observation))
    assert list(agent.greedy) == ["search", "prior", "true_model", "last"]
    assert agent.unaveraged is not None
    act_plainly, act_greedily = jax.jit(other.act_greedily), jax.jit(agent.act_greedily)
    last, average = (act_plainly(x, keys[2], moment) for x in (first, second))
    assert (last.value != average.value).all()
    acted = jax.jit(agent.greedy["last"])(state, keys[2], moment)
    chex.assert_trees_all_close(acted, last, rtol=1e-5)
    chex.assert_trees_all_close(act_greedily(state, keys[2], moment), average, rtol=1e-5)
    unaveraged = agent.unaveraged(state)
    chex.assert_trees_all_close(act_greedily(unaveraged, keys[2], moment), last, rtol=1e-5)
    chex.assert_trees_all_equal_shapes_and_dtypes(unaveraged, state)


def test_muzero_without_an_average_has_no_such_way_of_acting() -> None:
    agent = muzero_agent(tiny_config(), tiny_spec())
    assert "last" not in agent.greedy and agent.unaveraged is None


def _state(run_dir: Path) -> dict[str, Any]:
    """Every leaf of the final state and of the best agent, keys as their data."""
    state = jax.eval_shape(build(AVERAGED).train.init, jax.random.key(0))
    groups = {**split_state(state), "best": state.agent}
    restored = restore(run_dir / "checkpoints", groups)
    assert restored.step == 512
    leaves = jax.tree_util.tree_leaves_with_path(restored.groups)
    return {jax.tree_util.keystr(path): to_numbers(leaf) for path, leaf in leaves}


def test_a_run_with_averaged_parameters_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is copied after a checkpoint on the way, and before the last evaluation."""
    alone, copies = tmp_path / "alone", [tmp_path / "on the way", tmp_path / "at the end"]
    save = RunWriter.save

    def save_and_copy(self: RunWriter, state: Any) -> None:
        save(self, state)
        if self.counters.env_steps == 256:
            shutil.copytree(alone, copies[0])

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "save", save_and_copy)
        _before_evaluation(6, lambda: shutil.copytree(alone, copies[1]), patch)
        runner.train(AVERAGED, alone)
    assert [checkpoint_steps(x / "checkpoints") for x in copies] == [[128, 256], [384, 512]]
    expected = _state(alone)
    for name, leaf in expected.items():
        average = expected.get(name.replace(".params", ".average_params"), leaf)
        assert average is leaf or (average != leaf).any(), name
    for copy in copies:
        runner.resume(copy)
        assert _result(copy) == _result(alone) and set(_result(copy)) >= OTHERS
        assert _evaluations(copy) == _evaluations(alone)
        found = _state(copy)
        assert list(found) == list(expected)
        for name, leaf in found.items():
            assert leaf.tobytes() == expected[name].tobytes(), name


def test_an_agent_that_does_not_average_refuses_to_act_last(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(finished_run), "--acting", "last", "--json"]) == 2
    assert (
        "--acting must be one of search, prior, true_model, found 'last'."
        in capsys.readouterr().err
    )
