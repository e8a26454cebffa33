"""`muzero diagnose`, for all kinds of agents."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_run import tiny
from untrained_run import make_untrained_run

from muzero_jax.cli import main
from muzero_jax.reports.extras import MissingExtraError
from muzero_jax.runs.build import load_ring, load_run
from muzero_jax.runs.runner import train
from muzero_jax.settings import apply_settings
from muzero_jax.tabular.presets import tabular
from muzero_jax.training.diagnosis import DiagnosisSizes
from muzero_jax.viewing.diagnosis import (
    RunDiagnosis,
    _ring_metrics,
    diagnose_run,
    print_diagnosis,
)

FEW = ["--steps", "40"]


def diagnose(run: Path, *args: str) -> int:
    return main(["diagnose", str(run), *FEW, *args])


@pytest.fixture(scope="module")
def measured(finished_run: Path) -> RunDiagnosis:
    sizes = DiagnosisSizes(num_steps=40)
    return diagnose_run(finished_run, sizes=sizes, seed=1, true_model_episodes=4)


@pytest.fixture
def asked(measured: RunDiagnosis, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the command asks for, which is answered by what was measured once."""
    asked = list[dict[str, Any]]()

    def answer(run_dir: Path, **options: Any) -> RunDiagnosis:
        asked.append({"run_dir": run_dir, **options})
        return measured

    monkeypatch.setattr("muzero_jax.viewing.diagnosis.diagnose_run", answer)
    return asked


def test_it_prints_numbers_with_advice_and_draws_the_errors(
    asked: list[dict[str, Any]],
    finished_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "pictures" / "errors.png"
    args = ["--depth", "2", "--seed", "3", "--checkpoint", "best"]
    assert diagnose(finished_run, "--out", str(out), *args) == 0
    told = capsys.readouterr()
    assert asked == [
        {
            "run_dir": finished_run,
            "sizes": DiagnosisSizes(num_steps=40, num_depths=2),
            "seed": 3,
            "checkpoint": "best",
            "true_model_episodes": 0,
        }
    ]
    assert out.read_bytes().startswith(b"\x89PNG") and out.stat().st_size > 10_000
    assert f"figure: {out}" in told.out
    assert told.err.startswith(f"diagnosing {finished_run}: 40 greedy steps in each of 8 envir")
    for words in (
        "explore/distinct_observations_share",
        "The ring is more varied",
        "explore/nongreedy_action_share",
        "policy/q_agreement_share",
        "model/value_error_at_depth_0_own",
        "value, random",
        "model/reward_error_random\n    ",
        "evaluation/score_true_model",
    ):
        assert words in told.out, words
    assert "does not apply" not in told.out and "both sides" not in told.out


def test_it_prints_one_object(
    asked: list[dict[str, Any]],
    finished_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    args = ["--json", "--out", str(tmp_path / "a.png"), "--true_model", "--episodes", "4"]
    assert diagnose(finished_run, *args) == 0
    assert asked[0]["true_model_episodes"] == 4
    found = json.loads(capsys.readouterr().out)
    assert (found["env_steps"], found["agent"], found["not_applicable"]) == (512, "muzero", {})
    metrics = found["metrics"]
    ring, step = load_ring(finished_run, load_run(finished_run))
    assert ring is not None and step == 512
    observation = ring.transitions.observation.reshape(-1, 50)
    distinct = len({tuple(row) for row in observation.tolist()})
    assert metrics["explore/distinct_observations"] == distinct
    assert metrics["explore/distinct_observations_share"] == distinct / 320
    assert {f"model/value_error_at_depth_{k}_random" for k in (1, 5)} < set(metrics)
    assert -1.0 <= metrics["evaluation/score_true_model"] <= 1.0
    assert set(found["advice"]) > {"evaluation/score_true_model", "model/value_error_own"}


def test_what_was_not_found_is_null_in_json_and_said_in_print(
    capsys: pytest.CaptureFixture[str],
) -> None:
    metrics = {"policy/q_agreement_share": 0.0, "policy/prior_entropy_where_q_agrees": math.nan}
    found = RunDiagnosis(metrics, {"model/*": "there is no model"}, {"num_players": 2})
    assert json.loads(json.dumps(found.as_dict()))["metrics"] == {
        "policy/q_agreement_share": 0.0,
        "policy/prior_entropy_where_q_agrees": None,
    }
    print_diagnosis(found, Console())
    told = capsys.readouterr().out
    assert f"{'policy/prior_entropy_where_q_agrees':<38} nothing was found for it" in told
    assert f"{'model/*':<38} does not apply: there is no model." in told
    assert "The agent played both sides here." in told


def test_a_checkpoint_without_a_ring(tmp_path: Path) -> None:
    run_dir = make_untrained_run(tmp_path / "run")
    run = load_run(run_dir)
    assert load_ring(run_dir, run) == (None, 7)
    metrics, reason = _ring_metrics(run_dir, run)
    assert metrics == {} and "no ring" in reason


def test_a_ring_of_another_time_limit(finished_run: Path) -> None:
    run = load_run(finished_run)
    limited = apply_settings(run.config, {"environment.time_limit": 5})
    metrics, reason = _ring_metrics(finished_run, dataclasses.replace(run, config=limited))
    assert metrics == {} and "another time limit" in reason


def test_the_numbers_need_no_matplotlib(
    asked: list[dict[str, Any]],
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def missing(module: str, **told: str) -> None:
        raise MissingExtraError("Plots need matplotlib, which is not installed.")

    monkeypatch.setattr("muzero_jax.reports.plots.import_extra", missing)
    assert diagnose(finished_run) == 0
    told = capsys.readouterr()
    assert "model/value_error_at_depth_0_own" in told.out
    assert "notice: the figure is left out. Plots need matplotlib" in told.err
    assert not (finished_run / "diagnosis.png").exists()
    assert diagnose(finished_run, "--out", str(tmp_path / "a.png")) == 2
    told = capsys.readouterr()
    assert "model/value_error_at_depth_0_own" in told.out and "error: Plots need" in told.err


@pytest.mark.slow
def test_the_same_seed_repeats_it(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for _ in range(2):
        diagnose(finished_run, "--json", "--seed", "1", "--out", str(tmp_path / "a.png"))
        found.append(json.loads(capsys.readouterr().out)["metrics"])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("agent", "absent"),
    [
        ("q_learning", ["policy/*", "model/*_at_depth_1, 2, ..."]),
        pytest.param("table_muzero", [], marks=pytest.mark.slow),
    ],
)
def test_learners_of_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], agent: str, absent: list[str]
) -> None:
    config = tabular("tiny", "line", agent)
    train(apply_settings(config, {"training.num_env_steps": 256}), tmp_path / "run")
    capsys.readouterr()
    assert diagnose(tmp_path / "run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["not_applicable"]) == absent
    assert found["metrics"]["explore/distinct_observations"] <= 10
    assert (tmp_path / "run/diagnosis.png").exists() == (agent == "table_muzero")
    assert diagnose(tmp_path / "run") == 0
    told = capsys.readouterr().out
    assert all(f"{name:<38} does not apply: the agent" in told for name in absent)
    assert diagnose(tmp_path / "run", "--true_model") == (2 if absent else 0)


@pytest.mark.slow
def test_a_game_of_two_players(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny(environment__name="tic_tac_toe", training__num_env_steps=128)
    train(config, tmp_path / "run")
    capsys.readouterr()
    assert diagnose(tmp_path / "run", "--true_model", "--episodes", "4") == 0
    told = capsys.readouterr().out
    assert "The agent played both sides here." in told
    assert "evaluation/score_true_model" in told


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--depth", "0"], "--depth must be between 1 and 1000"),
        (["--steps", "3"], "--steps (3) must be at least --depth (5)"),
        (["--checkpoint", "7"], "--checkpoint must be best or the number"),
        (["--out", "."], "is a folder"),
    ],
)
def test_mistakes_are_one_sentence(
    finished_run: Path, capsys: pytest.CaptureFixture[str], args: list[str], told: str
) -> None:
    assert main(["diagnose", str(finished_run), *args]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ") and told in lines[-1]
    assert "Traceback" not in "".join(lines)


@pytest.mark.slow
def test_it_runs_in_a_process_of_its_own(finished_run: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "muzero_jax", "diagnose", str(finished_run), *FEW, "--json"]
    done = subprocess.run(
        [*program, "--out", str(tmp_path / "a.png")], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["environment"] == "catch"
    assert "Traceback" not in done.stderr
