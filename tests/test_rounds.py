"""Deterministic studies: the same trials, whoever is quicker, and whatever was killed."""

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sweep_process import start_sweep, table_without_times, wait_for
from tiny_run import TINY

from muzero_jax.cli import main
from muzero_jax.config import ConfigError
from muzero_jax.core.errors import InterruptedRunError, RunLockedError
from muzero_jax.sweeps import trials as trials_module
from muzero_jax.sweeps.definition import Study
from muzero_jax.sweeps.rounds import RoundTrials
from muzero_jax.sweeps.runner import run_sweep
from muzero_jax.sweeps.search_space import parse_axis, suggest
from muzero_jax.sweeps.sweep_folder import load_sweep, opened_sweep
from muzero_jax.sweeps.sweep_progress import Stop
from muzero_jax.sweeps.trials import Trial, Trials

pytestmark = pytest.mark.usefixtures("shared_programs")
SPACE = (
    parse_axis(TINY, "learning_rate=1e-3..1e-1:log"),
    parse_axis(TINY, "target.discount=0.9,0.95"),
)
NUM_STEPS = 9
STUDY = Study(
    "tiny",
    dataclasses.replace(TINY, training=dataclasses.replace(TINY.training, num_env_steps=9 * 128)),
    (0,),
    "rates",
    SPACE,
    num_trials=24,
    pruner="asha",
    is_deterministic=True,
    round_size=3,
)


class KilledError(Exception):
    """A process that plays being killed."""


class Asked:
    signal_number: int | None = None


def _score(trial: Trial, step: int) -> float:
    rate = trial.setting["optimizer.learning_rate"]
    return step - 30 * abs(rate - 0.01) + trial.setting["target.discount"]


def _work(trials: Trials, delay: Callable[[int, int], float]) -> None:
    """What a worker does, but for the training; a delay below 0 is a kill."""

    def wait(number: int, step: int) -> None:
        seconds = delay(number, step)
        if seconds < 0:
            raise KilledError
        time.sleep(seconds)

    while True:
        with contextlib.ExitStack() as stack:
            trial = trials.take(stack)
            if trial is None:
                return
            for step in range(1, NUM_STEPS + 1):
                wait(trial.number, step)
                if not trials.report(trial, step, _score(trial, step)):
                    wait(trial.number, step)
                    trials.end(trial, "pruned", f"at {step}")
                    break
            else:
                trials.end(trial, "finished", _score(trial, NUM_STEPS))


def _run(
    folder: Path, study: Study, num_workers: int, delay: Callable[[int, int], float]
) -> list[Any]:
    """Runs a study with workers until it ends or is killed; what its journal says then."""
    folder.mkdir(exist_ok=True)
    asked = Asked()
    trials = RoundTrials(folder, study, Stop(asked))

    def work() -> None:
        try:
            _work(trials, delay)
        except KilledError:
            asked.signal_number = 9
        except InterruptedRunError:
            pass

    workers = [threading.Thread(target=work) for _ in range(num_workers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [
        (t.number, t.params, t.state.name, t.value, t.intermediate_values)
        for t in trials.study.trials
    ]


@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
def test_two_runs_of_other_speeds_find_the_same(tmp_path, pruner):
    study = dataclasses.replace(STUDY, pruner=pruner)
    even = _run(tmp_path / "even", study, 3, lambda number, step: 0.0)
    # Every other trial is slow, and there is a worker less.
    odd = _run(tmp_path / "odd", study, 2, lambda number, step: 0.002 * (number % 2))
    assert even == odd
    assert [number for number, *_ in even] == list(range(24))
    states = [state for _, _, state, _, _ in even]
    assert {"COMPLETE", "PRUNED"} == set(states)
    assert states.count("PRUNED") >= 5


def test_a_study_that_is_killed_again_and_again_finds_the_same(tmp_path):
    whole = _run(tmp_path / "whole", STUDY, 2, lambda number, step: 0.0)
    for number, deadly in ((1, 1), (4, 1), (10, 3)):
        _run(tmp_path / "killed", STUDY, 2, lambda n, step, at=(number, deadly): -((n, step) == at))
    found = _run(tmp_path / "killed", STUDY, 2, lambda number, step: 0.0)
    assert found == whole


def test_a_kill_between_two_values_of_a_setting_changes_neither(tmp_path, monkeypatch):
    def no_delay(number, step):
        return 0.0

    def killed_at(number):
        def kill(trial, axis):
            if trial.number == number and axis is SPACE[0]:
                raise KilledError
            return suggest(trial, axis)

        return kill

    study = dataclasses.replace(STUDY, space=SPACE[::-1])  # The rate is the last.
    whole = _run(tmp_path / "whole", study, 1, no_delay)
    # The last is chosen by what earlier trials scored, and not at random.
    for number in (1, 13):
        with monkeypatch.context() as patch:
            patch.setattr(trials_module, "suggest", killed_at(number))
            left = _run(tmp_path / "killed", study, 1, no_delay)
        assert len(left[number][1]) == 1
    assert _run(tmp_path / "killed", study, 1, no_delay) == whole


def test_a_trial_is_judged_by_earlier_rounds_only(tmp_path):
    """The first of a round is far ahead, and the second is not pruned for it."""
    study = dataclasses.replace(STUDY, num_trials=4, round_size=2)
    (tmp_path / "study").mkdir()
    trials = RoundTrials(tmp_path / "study", study, Stop(Asked()))
    with contextlib.ExitStack() as stack:
        ahead, behind = trials.take(stack), trials.take(stack)
        assert (ahead.number, behind.number) == (0, 1)
        first = trials.report(ahead, 1, 100.0)
        assert trials.report(behind, 1, 0.0) == first
        trials.end(behind, "finished", 0.0)
        assert [t.state.name for t in trials.study.trials] == ["RUNNING", "RUNNING"]
        trials.end(ahead, "finished", 100.0)
        assert [t.state.name for t in trials.study.trials] == ["COMPLETE", "COMPLETE"]
        worse = trials.take(stack)
        assert not trials.report(worse, 1, -1.0)


def test_a_worker_that_waits_for_its_round_hears_a_stop(tmp_path):
    (tmp_path / "study").mkdir()
    asked = Asked()
    study = dataclasses.replace(STUDY, num_trials=2, round_size=1)
    trials = RoundTrials(tmp_path / "study", study, Stop(asked))
    heard = []

    def wait() -> None:
        with pytest.raises(InterruptedRunError), contextlib.ExitStack() as stack:
            trials.take(stack)
        heard.append(True)

    with contextlib.ExitStack() as taken:
        assert trials.take(taken).number == 0
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.05)
        assert not heard
        asked.signal_number = 15
        waiting.join(timeout=20)
    assert heard


def test_a_deterministic_study_has_one_process_and_no_cluster(tmp_path, capsys):
    folder = tmp_path / "study"
    with opened_sweep(folder, STUDY):
        assert load_sweep(folder) == STUDY
        with pytest.raises(RunLockedError, match="another process"), opened_sweep(folder, STUDY):
            pass
    with pytest.raises(ConfigError, match="run by one process"):
        run_sweep(STUDY, tmp_path / "other", ray_address="auto")
    assert not (tmp_path / "other").exists()
    command = ["sweep", "catch", "--set", "td_steps=1,2", "--out", str(tmp_path / "other")]
    assert main([*command, "--deterministic"]) == 2
    assert "--deterministic goes with --study NAME only" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_deterministic_study_that_is_killed_has_the_same_table(tmp_path):
    """It is killed twice with two devices, and ended with one; nothing disturbs the other study."""
    study = dataclasses.replace(STUDY, base=TINY, num_trials=5, round_size=2)
    assert run_sweep(study, tmp_path / "whole", num_devices=1)["waiting"] == 0
    folder = tmp_path / "killed"
    with opened_sweep(folder, study):
        pass
    for number in (1, 3):
        process = start_sweep(tmp_path, "--resume", str(folder))
        wait_for("members/*/*/checkpoints/*", folder, number, process)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    run_sweep(study, folder, num_devices=1)
    assert table_without_times(folder) == table_without_times(tmp_path / "whole")
    assert len(table_without_times(folder)) == 5
