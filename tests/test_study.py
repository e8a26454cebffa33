"""A study: its trials, what ends them, and what its journal says."""

import contextlib
import dataclasses
import functools
import json
from pathlib import Path

import pytest
from tiny_run import TINY, tiny

from muzero_jax.config import ConfigError
from muzero_jax.reports.sweep_table import read_sweep
from muzero_jax.sweeps import runner
from muzero_jax.sweeps.definition import Study
from muzero_jax.sweeps.search_space import parse_axis
from muzero_jax.sweeps.sweep_folder import load_sweep
from muzero_jax.sweeps.trials import Trials

pytestmark = pytest.mark.usefixtures("shared_programs")
# One device, whatever the other tests have let JAX find.
run_sweep = functools.partial(runner.run_sweep, num_devices=1)

SPACE = (
    parse_axis(TINY, "learning_rate=1e-3..1e-1:log"),
    parse_axis(TINY, "target.discount=0.9,0.95"),
)
STUDY = Study("tiny", TINY, (0, 1), "rates", SPACE, num_trials=3, pruner="none")


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "studied"
    assert run_sweep(STUDY, folder)["finished"] == 6
    return folder


def _trials(folder: Path):
    return Trials(folder, load_sweep(folder)).study.trials


def test_trials_are_settings_and_their_objective_is_the_iqm_over_seeds(studied):
    trials, rows = _trials(studied), read_sweep(studied).rows
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    for trial in trials:
        own = [row for row in rows if row["setting"] == trial.number]
        assert [row["seed"] for row in own] == [0, 1]
        assert trial.value == pytest.approx(sum(row["score_mean"] for row in own) / 2)
        assert sorted(trial.intermediate_values) == [1, 2, 3]
        for name, value in trial.params.items():
            assert {row[name] for row in own} == {value}


def test_more_trials_may_be_asked_for_and_the_old_are_not_rerun(studied):
    before = [trial.datetime_complete for trial in _trials(studied)]
    assert run_sweep(dataclasses.replace(STUDY, num_trials=4), studied)["finished"] == 8
    after = _trials(studied)
    assert [trial.datetime_complete for trial in after][:3] == before
    assert len(after) == 4
    assert load_sweep(studied).num_trials == 4


def test_another_search_space_is_refused(studied):
    other = dataclasses.replace(STUDY, space=SPACE[:1])
    with pytest.raises(ConfigError, match="holds another sweep: space is"):
        run_sweep(other, studied)


@pytest.mark.slow
def test_a_trial_that_diverges_is_recorded_and_the_study_goes_on(tmp_path):
    axis = (parse_axis(TINY, "learning_rate=1e38,1e-3"),)
    wild = Study("tiny", TINY, (3,), "wild", axis, num_trials=5, pruner="none")
    counts = run_sweep(wild, tmp_path / "study")
    trials = _trials(tmp_path / "study")
    failed = [trial for trial in trials if trial.state.name == "FAIL"]
    assert 1 <= len(failed) == counts["failed"] < 5
    for trial in failed:
        assert "was not finite at update" in trial.user_attrs["reason"]
        assert trial.params["optimizer.learning_rate"] == 1e38


@pytest.mark.slow
def test_a_setting_that_cannot_work_fails_its_trial_only(tmp_path):
    axis = (parse_axis(TINY, "td_steps=3,400"),)
    wild = Study("tiny", TINY, (0,), "pairs", axis, num_trials=4, pruner="none")
    run_sweep(wild, tmp_path / "study")
    reasons = [t.user_attrs.get("reason", "") for t in _trials(tmp_path / "study")]
    assert any("replay.capacity" in reason for reason in reasons) and "" in reasons


def test_the_pruner_ends_what_is_behind(tmp_path, monkeypatch):
    """The second trial is told worse scores than the first: successive halving stops it."""
    told = []
    report = Trials.report

    def worse_and_worse(self, trial, step, value):
        told.append((trial.number, step))
        return report(self, trial, step, -float(trial.number))

    monkeypatch.setattr(Trials, "report", worse_and_worse)
    wild = dataclasses.replace(STUDY, seeds=(0, 1), num_trials=4, pruner="asha")
    counts = run_sweep(wild, tmp_path / "study")
    trials = _trials(tmp_path / "study")
    assert [trial.state.name for trial in trials][:2] == ["COMPLETE", "PRUNED"]
    pruned = tmp_path / "study/members/setting-001/seed-1"
    outcome = json.loads((pruned / "outcome.json").read_text())
    assert outcome["status"] == "pruned" and "is behind other trials" in outcome["reason"]
    assert not (pruned / "result.json").exists() and any((pruned / "checkpoints").iterdir())
    assert counts["pruned"] == 2 * sum(trial.state.name == "PRUNED" for trial in trials)


@pytest.mark.slow
def test_what_a_killed_process_left_undecided_is_decided(tmp_path):
    """Killed after the outcome of one seed was written, and before the study was told."""
    folder = tmp_path / "study"
    folder.mkdir()
    trials = Trials(folder, STUDY)
    with contextlib.ExitStack() as stack:
        number = trials.take(stack).number
        run_dir = folder / "members/setting-000/seed-0"
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "config.yaml").write_text("seed: 0\n")
        outcome = {"status": "pruned", "reason": "it was behind"}
        (run_dir / "outcome.json").write_text(json.dumps(outcome))
    with contextlib.ExitStack() as stack:
        assert trials.take(stack).number == number
        assert trials.take(stack).number == 1  # Nobody else gets the first meanwhile.
    (folder / "sweep.yaml").write_text(json.dumps(STUDY.to_dict()))
    run_sweep(STUDY, folder)
    states = [trial.state.name for trial in _trials(folder)]
    assert states == ["PRUNED", "COMPLETE", "COMPLETE"]


def test_pruning_needs_evaluations():
    with pytest.raises(ConfigError, match=r"evaluation.interval is 0"):
        dataclasses.replace(STUDY, base=tiny(evaluation__interval=0), pruner="asha")


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00\n", b"[]\n", b"{}\n", b"{\n{\n"])
def test_a_damaged_journal_is_one_sentence(tmp_path, damage):
    (tmp_path / "journal.log").write_bytes(damage)
    with pytest.raises(ConfigError, match=r"journal\.log is damaged") as told:
        Trials(tmp_path, STUDY)
    assert "\n" not in str(told.value)


def test_a_trial_whose_score_is_not_finite_fails(tmp_path):
    trials = Trials(tmp_path, STUDY)
    with contextlib.ExitStack() as stack:
        trials.take(stack)
        for run_dir in tmp_path.glob("members/setting-000/*"):
            (run_dir / "config.yaml").write_text("seed: 0\n")
            result = '{"score_mean": NaN, "score_std": NaN, "train_seconds": 1.0}'
            (run_dir / "result.json").write_text(result)
    with trials.claim() as claim:
        assert claim.members[0].setting == 1
    first = trials.study.trials[0]
    assert first.state.name == "FAIL"
    assert first.user_attrs["reason"] == "a final score is not finite"
