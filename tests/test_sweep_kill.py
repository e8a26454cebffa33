"""Sweeps and studies that are killed again and again, as processes."""

import random
import signal
import time

import pytest
from sweep_process import end_sweep, start_sweep, table_without_times, wait_for

from muzero_jax.sweeps.sweep_folder import load_sweep
from muzero_jax.sweeps.trials import Trials


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_killed_at_random_has_the_same_table(tmp_path):
    arguments = ["--seeds", "2", "--set", "learning_rate=1e-3,1e-2", "discount=0.9,0.95"]
    end_sweep(start_sweep(tmp_path, *arguments, "--out", str(tmp_path / "whole")))
    generator, folder = random.Random(4), tmp_path / "killed"
    for number in (1, 3, 5):
        process = start_sweep(tmp_path, *arguments, "--out", str(folder))
        wait_for("members/*/*/checkpoints/*", folder, 2 * number, process)
        time.sleep(generator.uniform(0.0, 0.3))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    end_sweep(start_sweep(tmp_path, "--resume", str(folder)))
    assert table_without_times(folder) == table_without_times(tmp_path / "whole")
    assert len(table_without_times(folder)) == 8


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_of_two_processes_loses_no_trial_to_kills(tmp_path):
    folder = tmp_path / "study"
    arguments = ["--seeds", "2", "--set", "learning_rate=1e-3..1e-1:log", "--study", "rates"]
    arguments += ["--trials", "8", "--pruner", "asha", "--devices", "1", "--out", str(folder)]
    for number in (1, 5):
        processes = [start_sweep(tmp_path, *arguments) for _ in range(2)]
        wait_for("members/*/*/checkpoints/*", folder, 2 * number, processes[0])
        for process in processes:
            process.kill()
            process.communicate()
    outputs = [
        end_sweep(process)
        for process in [start_sweep(tmp_path, "--resume", str(folder)) for _ in range(2)]
    ]
    assert any("resumed at" in output or "best" in output for output in outputs)
    trials = Trials(folder, load_sweep(folder)).study.trials
    assert [trial.number for trial in trials] == list(range(8))
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert len({trial.params["optimizer.learning_rate"] for trial in trials}) == 8
    end_sweep(start_sweep(tmp_path, "--resume", str(folder)))
    rows = table_without_times(folder)
    assert len(rows) == 16
    for trial in trials:
        own = [row for row in rows if int(row["setting"]) == trial.number]
        statuses = {row["status"] for row in own}
        assert statuses == {"finished"} if trial.state.name == "COMPLETE" else "pruned" in statuses
        if trial.state.name == "COMPLETE":
            mean = sum(float(row["score_mean"]) for row in own) / 2
            assert trial.value == pytest.approx(mean)
