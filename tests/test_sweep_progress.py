"""What a sweep shows: its bookkeeping, its table, and that its threads never wait in a circle."""

import csv
import math
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from busy_sweeps import RATE, pretend_to_run, pretend_to_sweep, sweep_of
from pseudo_terminal import in_terminal
from rich.console import Console
from tiny_run import TINY

from muzero_jax.core.errors import RunError
from muzero_jax.sweeps import sweep_progress
from muzero_jax.sweeps.definition import Study
from muzero_jax.sweeps.search_space import parse_axis
from muzero_jax.sweeps.sweep_progress import SweepProgress
from muzero_jax.sweeps.sweep_state import MemberProgress, SweepState
from muzero_jax.tracking import screen

STEPS = TINY.total_env_steps


@pytest.mark.slow
def test_ten_sweeps_in_a_terminal_end(tmp_path: Path) -> None:
    """Workers that end runs while the display is drawn once held each other's locks for ever."""
    script = str(Path(__file__).parent / "busy_sweeps.py")
    arguments = [script, str(tmp_path / "sweeps"), "10", "100"]
    with in_terminal(*arguments, cwd=tmp_path) as terminal:
        assert terminal.read_until("all ended", 60), terminal.output[-500:]
        assert terminal.end(10) == 0
    for folder in (tmp_path / "sweeps").iterdir():
        assert len((folder / "table.csv").read_text().splitlines()) == 101
    assert "100/100 learning_rate=" in terminal.output


def test_workers_that_end_runs_while_all_is_drawn_are_never_stuck(tmp_path, monkeypatch, capsys):
    """The quick form of the test above, with a picture that is drawn without pause."""
    monkeypatch.setattr(screen, "is_live", lambda: True)
    monkeypatch.setattr(screen, "_SECONDS_BETWEEN_DRAWINGS", 1e-4)
    monkeypatch.setattr(sweep_progress, "_LEAST_REST", 1e-4)
    work = threading.Thread(
        target=pretend_to_sweep, args=(tmp_path / "sweep", 50, 0.0), daemon=True
    )
    work.start()
    work.join(timeout=60)
    assert not work.is_alive()
    with (tmp_path / "sweep/table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["setting"]) for row in rows] == list(range(50))
    lines = [line for line in capsys.readouterr().out.splitlines() if "/50 learning_rate" in line]
    assert [line.split("/")[0] for line in lines] == [str(n + 1) for n in range(50)]


def test_many_quick_runs_do_not_write_the_table_as_often(tmp_path, monkeypatch):
    """The workers wait for no writing, and the last table has every run."""
    write, calls = sweep_progress.write_table, []

    def slow_write(*args: Any, **kwargs: Any) -> None:
        time.sleep(0.05)
        calls.append(len(args[1]))
        write(*args, **kwargs)

    monkeypatch.setattr(sweep_progress, "write_table", slow_write)
    began = time.perf_counter()
    progress = pretend_to_sweep(tmp_path / "sweep", 60, 0.0, num_workers=1)
    assert time.perf_counter() - began < 20
    assert len(calls) < 20
    assert calls[-1] == 60
    assert progress.counts()["finished"] == 60


def test_a_table_that_cannot_be_written_does_not_stop_the_runs(tmp_path, monkeypatch, capsys):
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "sweep").mkdir()
    progress = SweepProgress(tmp_path / "sweep", sweep_of(3), "a sweep")
    with progress.shown():
        monkeypatch.setattr(sweep_progress, "write_table", full)
        pretend_to_run(progress, sweep_of(3).members(), 0.02)
        shown, deadline = "", time.monotonic() + 20
        while "warning" not in shown and time.monotonic() < deadline:
            time.sleep(0.01)
            shown += capsys.readouterr().out
        with pytest.raises(RunError, match=r"No space left .* muzero sweep --resume .* writes it"):
            progress.finish()
    shown += capsys.readouterr().out
    assert "3/3 learning_rate" in shown
    assert shown.count("warning: the table is behind") == 1


@pytest.mark.parametrize("error", [ZeroDivisionError("the real one"), KeyboardInterrupt()])
def test_a_table_that_cannot_be_written_does_not_hide_what_went_wrong(tmp_path, monkeypatch, error):
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    progress = SweepProgress(tmp_path, sweep_of(3), "a sweep")
    with progress.shown():
        monkeypatch.setattr(sweep_progress, "write_table", full)
        with pytest.raises(type(error)), sweep_progress.stoppable(progress):
            raise error


def test_a_run_that_is_found_over_before_its_worker_says_so_is_counted_once():
    (member,) = sweep_of(1).members()
    state = SweepState([RATE], num_runs=1)
    state.begin(MemberProgress(member, share=1.0))
    once = {"finished": 1, "failed": 0, "pruned": 0, "running": 0, "waiting": 0}
    assert state.open_among([member.folder]) == [member.folder]
    state.settle(member.folder, _row(0, 1.0))
    state.give_back([member])
    assert state.snapshot().counts == once and state.snapshot().num_done == 1.0
    assert not state.open_among([member.folder])


def test_a_run_whose_end_is_seen_before_its_beginning_does_not_run():
    state = SweepState([RATE], num_runs=1)
    (member,) = sweep_of(1).members()
    state.settle(member.folder, {"status": "finished", "setting": 0, "score_mean": 1.0})
    state.begin(MemberProgress(member))
    assert state.snapshot().counts["running"] == 0 and not state.snapshot().running


def test_runs_of_other_processes_are_told_of_and_those_of_earlier_ones_counted(tmp_path, capsys):
    folder = tmp_path / "sweep"
    folder.mkdir()
    sweep = sweep_of(3)
    members = sweep.members()
    quiet = SweepProgress(folder, sweep, "earlier")
    pretend_to_run(quiet, members[:1], 0.0)
    space = (parse_axis(TINY, "learning_rate=1e-3..1e-2"),)
    study = Study("tiny", TINY, (0,), "rates", space, num_trials=3)
    progress = SweepProgress(folder, study, "a study")
    with progress.shown():
        assert progress.counts()["finished"] == 1
        pretend_to_run(quiet, members[1:2], 0.0)
        progress.end([])
        deadline = time.monotonic() + 20
        while progress.counts()["finished"] < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert progress.counts() == {
        "finished": 2,
        "failed": 0,
        "pruned": 0,
        "running": 0,
        "waiting": 1,
    }
    shown = capsys.readouterr().out
    assert "1/3" not in shown and "2/3 learning_rate=0.002" in shown


def _row(setting: int, score: float, status: str = "finished") -> dict[str, Any]:
    return {"setting": setting, "status": status, "score_mean": score, RATE: 0.1 * (setting + 1)}


def test_the_best_setting_is_the_one_with_the_highest_mean_of_its_seeds():
    state = SweepState([RATE], num_runs=5)
    assert state.snapshot().best == ""
    state.settle("a", _row(0, 5.0))
    state.settle("b", _row(1, 4.0))
    assert state.snapshot().best == "5 (learning_rate=0.1; 1 seed)"
    state.settle("c", _row(0, 1.0))  # The mean of setting 0 is 3 by now.
    assert state.snapshot().best == "4 (learning_rate=0.2; 1 seed)"
    state.settle("d", _row(2, math.nan))
    assert state.snapshot().best == "4 (learning_rate=0.2; 1 seed)"
    assert state.snapshot().counts == {
        "finished": 4,
        "failed": 0,
        "pruned": 0,
        "running": 0,
        "waiting": 1,
    }


def test_the_time_left_counts_what_this_process_has_made(monkeypatch):
    members = sweep_of(4).members()
    state = SweepState([RATE], num_runs=4)
    state.settle(members[0].folder, _row(0, 1.0))
    state.start_clock()
    assert state.snapshot().seconds_left is None
    progress = MemberProgress(members[1])
    state.begin(progress)
    chunk = TINY.env_steps_per_chunk
    progress.metrics({"env_steps": STEPS / 4 + chunk})  # A quarter was made before.
    progress.metrics({"env_steps": STEPS / 2})
    now = state.snapshot()
    assert now.num_done == 1.5 and (now.counts["running"], now.counts["waiting"]) == (1, 2)
    began = state._began
    monkeypatch.setattr("time.perf_counter", lambda: began + 10.0)
    # A quarter of a run in 10 s; two and a half are left.
    assert state.snapshot().seconds_left == pytest.approx(100.0)
    state.settle(members[1].folder, _row(1, 1.0, "pruned"))
    # Three quarters in 10 s, whoever made the first one; a pruned run counts as whole.
    assert state.snapshot().seconds_left == pytest.approx(2 / 0.075)


def test_a_run_that_is_given_back_waits_again(tmp_path):
    sweep = sweep_of(2)
    members = sweep.members()
    progress = SweepProgress(tmp_path, sweep, "a sweep")
    for _ in range(2):
        progress.begin(members[0])
        assert progress.counts()["running"] == 1
        progress.end(members[:1])
        assert progress.counts()["running"] == 0 and progress.counts()["waiting"] == 2


def test_the_picture_has_a_bar_for_each_run(tmp_path):
    progress = SweepProgress(tmp_path, sweep_of(2), "a sweep")
    run = progress.begin(sweep_of(2).members()[0])
    run.activity("training")
    run.metrics({"env_steps": STEPS / 4})
    run.evaluation({"score_mean": 0.5})
    with (tmp_path / "shown").open("w") as file:
        console = Console(width=100, record=True, file=file)
        console.print(screen.picture(progress.rows()))
    shown = console.export_text()
    assert "1 running, 1 waiting" in shown and "none yet" in shown
    assert "training" in shown and "learning_rate=0.001, seed 0, score 0.5" in shown
    assert [row.share for row in progress.rows()] == [0.125, None, 0.25]


def test_a_score_that_is_not_finite_stops_no_sweep(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    pretend_to_sweep(folder, 2, 0.0)
    result = folder / "members/setting-001/seed-0/result.json"
    result.write_text('{"score_mean": NaN, "score_std": NaN, "train_seconds": 1.0}')
    progress = SweepProgress(folder, sweep_of(2), "the same sweep")
    with progress.shown():
        progress.finish()
    assert progress.counts()["finished"] == 2
    assert ",nan," in (folder / "table.csv").read_text()


def test_runs_that_a_sweep_does_not_name_are_not_counted(tmp_path: Path) -> None:
    pretend_to_sweep(tmp_path / "sweep", num_runs=3, seconds=0.0)
    shutil.copytree(tmp_path / "sweep/members/setting-000", tmp_path / "sweep/members/setting-777")
    progress = SweepProgress(tmp_path / "sweep", sweep_of(3), "again")
    with progress.shown():
        progress.finish()
    assert progress.counts()["finished"] == 3 and progress.counts()["waiting"] == 0
