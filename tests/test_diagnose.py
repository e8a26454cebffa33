"""`muzero diagnose`, for all kinds of agents."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import tiny
from untrained_run import make_untrained_run

from muzero_jax.cli import main
from muzero_jax.reports import extras
from muzero_jax.runs.build import load_ring, load_run
from muzero_jax.runs.runner import train
from muzero_jax.settings import apply_settings
from muzero_jax.tabular.presets import tabular

FEW = ["--steps", "40"]


def diagnose(run: Path, *args: str) -> int:
    return main(["diagnose", str(run), *FEW, *args])


def test_it_prints_numbers_with_advice_and_draws_the_errors(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pictures" / "errors.png"
    assert diagnose(finished_run, "--out", str(out), "--depth", "2") == 0
    told = capsys.readouterr()
    assert out.read_bytes().startswith(b"\x89PNG") and out.stat().st_size > 10_000
    assert f"figure: {out}" in told.out
    assert told.err.startswith(f"diagnosing {finished_run}: 40 greedy steps in each of 8 envir")
    for words in (
        "explore/distinct_observations_share",
        "The ring is more varied",
        "explore/nongreedy_action_share",
        "policy/q_agreement_share",
        "nats (uniform: 1.1)",
        "model/value_error_at_depth_0_own",
        "value, random",
        "of the mean reward along random actions",
    ):
        assert words in told.out, words
    assert "does not apply" not in told.out


def test_it_prints_one_object(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--json", "--out", str(tmp_path / "a.png"), "--true_model", "--episodes", "4"]
    assert diagnose(finished_run, *args) == 0
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


@pytest.mark.slow
def test_the_same_seed_repeats_it(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for _ in range(2):
        diagnose(finished_run, "--json", "--seed", "1", "--out", str(tmp_path / "a.png"))
        found.append(json.loads(capsys.readouterr().out)["metrics"])
    assert found[0] == found[1]


def test_a_run_without_a_ring_and_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_untrained_run(tmp_path / "run")

    def missing(module: str, **told: str) -> None:
        raise extras.MissingExtraError("Plots need matplotlib, which is not installed.")

    monkeypatch.setattr("muzero_jax.reports.plots.import_extra", missing)
    assert diagnose(run) == 0
    told = capsys.readouterr()
    assert (
        "explore/distinct_observations_share    does not apply: the agent has no ring" in told.out
    )
    assert "notice: the figure is left out. Plots need matplotlib" in told.err
    assert not (run / "diagnosis.png").exists()
    assert diagnose(run, "--out", str(tmp_path / "a.png")) == 2
    assert "model/value_error_at_depth_0_own" in capsys.readouterr().out


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
