"""Sweeps and studies that are killed again and again, as processes."""

import random
import signal
import subprocess
import time

import pytest
from sweep_process import end_sweep, start_sweep, table_without_times, wait_for
from tiny_run import TINY

from muzero_jax.sweeps.definition import Study, Sweep
from muzero_jax.sweeps.runner import run_sweep
from muzero_jax.sweeps.search_space import parse_axis
from muzero_jax.sweeps.sweep_folder import opened_sweep
from muzero_jax.sweeps.trials import Trials

pytestmark = pytest.mark.usefixtures("shared_programs")


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_killed_at_random_has_the_same_table(tmp_path):
    """It is killed three times with two devices, and ended with one."""
    rates = tuple({"optimizer.learning_rate": rate} for rate in (1e-3, 1e-2))
    sweep = Sweep("tiny", TINY, (0, 1), rates)
    run_sweep(sweep, tmp_path / "whole", num_devices=1)
    generator, folder = random.Random(4), tmp_path / "killed"
    with opened_sweep(folder, sweep):
        pass
    for number in (1, 2, 4):
        process = start_sweep(tmp_path, "--resume", str(folder))
        wait_for("members/*/*/checkpoints/*", folder, 2 * number, process)
        time.sleep(generator.uniform(0.0, 0.3))
        _kill(process)
    run_sweep(sweep, folder, num_devices=1)
    assert table_without_times(folder) == table_without_times(tmp_path / "whole")
    assert len(table_without_times(folder)) == 4


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_of_two_processes_loses_no_trial_to_kills(tmp_path):
    """Both are killed; then one of two more is killed, and the other takes up what it had."""
    space = (parse_axis(TINY, "learning_rate=1e-3..1e-1:log"),)
    study, folder = Study("tiny", TINY, (0, 1), "rates", space, 6, "asha"), tmp_path / "study"
    with opened_sweep(folder, study):
        pass
    for number in (1, 4):
        processes = [
            start_sweep(tmp_path, "--resume", str(folder), "--devices", "1") for _ in range(2)
        ]
        wait_for("members/*/*/checkpoints/*", folder, 2 * number, processes[0])
        _kill(processes.pop())
        if number == 1:
            _kill(processes.pop())
    assert "12/12" in end_sweep(processes.pop())
    trials = Trials(folder, study).study.trials
    assert [trial.number for trial in trials] == list(range(6))
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert len({trial.params["optimizer.learning_rate"] for trial in trials}) == 6
    rows = table_without_times(folder)
    assert len(rows) == 12
    for trial in trials:
        own = [row for row in rows if int(row["setting"]) == trial.number]
        statuses = {row["status"] for row in own}
        assert statuses == {"finished"} if trial.state.name == "COMPLETE" else "pruned" in statuses
        if trial.state.name == "COMPLETE":
            mean = sum(float(row["score_mean"]) for row in own) / 2
            assert trial.value == pytest.approx(mean)
