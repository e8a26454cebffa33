"""A sweep's runs are the runs that are trained alone, whatever happens to the sweep."""

import csv
import dataclasses
import errno
import functools
import json
import os
import shutil
import signal
import time
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from sweep_process import table_without_times
from tiny_run import TINY, tiny

from muzero_jax.checkpoints import checkpoint
from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps, discard_after
from muzero_jax.config import ConfigError
from muzero_jax.core.errors import (
    DiskError,
    DoesNotFitError,
    InterruptedRunError,
    RunLockedError,
)
from muzero_jax.reports.sweep_table import read_member, read_sweep
from muzero_jax.runs import run_writer, runner
from muzero_jax.runs.build import build, load_run
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.runs.continuing import check_not_lost
from muzero_jax.runs.host_loop import HostLoop
from muzero_jax.runs.memory import ProgramMemory, check_program_fits
from muzero_jax.runs.run_folder import locked
from muzero_jax.runs.run_start import Start
from muzero_jax.sweeps import block, sweep_progress, workers
from muzero_jax.sweeps import runner as sweep_runner
from muzero_jax.sweeps.block import run_block
from muzero_jax.sweeps.claims import Grid
from muzero_jax.sweeps.definition import Sweep, group_key
from muzero_jax.sweeps.sweep_folder import load_sweep, opened_sweep
from muzero_jax.sweeps.workers import size_programs

# One device, whatever the other tests have let JAX find.
run_sweep = functools.partial(sweep_runner.run_sweep, num_devices=1)

pytestmark = [pytest.mark.optimised, pytest.mark.usefixtures("shared_programs")]
RATES = ({"optimizer.learning_rate": 1e-3}, {"optimizer.learning_rate": 1e-2})
SWEEP = Sweep("tiny", TINY, (0, 3), RATES)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "swept"
    assert run_sweep(SWEEP, folder)["finished"] == 4
    return folder


def _report(run_dir: Path) -> list[Any]:
    """Everything that a run reports but for times."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    metrics = [{k: v for k, v in json.loads(x).items() if "time/" not in k} for x in lines]
    with (run_dir / "evaluation.csv").open() as file:
        evaluations = [{**row, "train_seconds": ""} for row in csv.DictReader(file)]
    return [metrics, evaluations, (run_dir / "evaluation_scores.csv").read_text()]


def _assert_same_agents(one: Path, other: Path) -> None:
    pair = [jax.tree.leaves(load_run(run_dir).agent_state) for run_dir in (one, other)]
    for x, y in zip(*pair, strict=True):
        np.testing.assert_array_equal(x, y)


def test_members_are_the_runs_that_are_trained_alone_bit_for_bit(swept, tmp_path):
    """The run that is trained alone is of another setting and seed than the first member."""
    last = SWEEP.members()[-1]
    runner.train(last.config, tmp_path / "alone")
    assert _report(swept / last.folder) == _report(tmp_path / "alone")
    _assert_same_agents(swept / last.folder, tmp_path / "alone")
    members = swept.glob("members/*/*")
    assert len({str(_report(member)) for member in members}) == 4


def test_the_table_holds_every_setting_and_number(swept):
    rows = table_without_times(swept)
    assert [(row["setting"], row["seed"]) for row in rows] == [
        ("0", "0"),
        ("0", "3"),
        ("1", "0"),
        ("1", "3"),
    ]
    first = rows[0]
    assert (first["status"], first["optimizer.learning_rate"]) == ("finished", "0.001")
    assert (first["env_steps"], first["replay.batch_size"]) == ("512", "8")
    result = json.loads((swept / first["folder"] / "result.json").read_text())
    assert float(first["score_mean"]) == result["score_mean"]
    assert {"loss/total", "search/depth_mean"} <= set(first)
    frame = pytest.importorskip("pandas").read_parquet(swept / "table.parquet")
    assert list(frame["score_mean"]) == [float(row["score_mean"]) for row in rows]
    assert frame["optimizer.learning_rate"].dtype == np.float64


def test_a_finished_sweep_says_so_and_runs_nothing(swept, monkeypatch):
    monkeypatch.setattr(Programs, "compile", lambda self: pytest.fail("compiled"))
    before = (swept / "table.csv").read_text()
    assert run_sweep(load_sweep(swept), swept)["finished"] == 4
    assert (swept / "table.csv").read_text() == before


@pytest.mark.slow
def test_vmapped_members_are_the_same_until_rounding_tells(tmp_path, swept):
    """The third has a place beside it to fill; the second diverges, and fails alone."""
    settings = (RATES[0], {"optimizer.learning_rate": 1e38}, RATES[1])
    sweep, folder = Sweep("tiny", TINY, (3,), settings), tmp_path / "sweep"
    counts = run_sweep(sweep, folder, width=2)
    assert (counts["failed"], counts["finished"]) == (1, 2)
    for setting, number in ((0, 0), (1, 2)):
        member = folder / f"members/setting-{number:03}/seed-3"
        metrics = _report(member)[0]
        expected = _report(swept / f"members/setting-{setting:03}/seed-3")[0]
        assert [row["env_steps"] for row in metrics] == [row["env_steps"] for row in expected]
        for name in ("episode/return", "train/episodes", "num_updates"):
            assert metrics[0][name] == expected[0][name]  # Before the first update all is equal.
        assert metrics[-1]["loss/total"] == pytest.approx(expected[-1]["loss/total"], rel=0.3)
        assert json.loads((member / "result.json").read_text())["runs_at_once"] == 2
    failed = table_without_times(folder)[1]
    assert (failed["status"], failed["score_mean"]) == ("failed", "")
    assert "was not finite at update" in failed["reason"]
    outcome = folder / failed["folder"] / "outcome.json"
    written = outcome.stat().st_mtime_ns
    assert run_sweep(sweep, folder, width=2)["failed"] == 1
    assert outcome.stat().st_mtime_ns == written


def _stop_in_chunk(number: int, patch: pytest.MonkeyPatch) -> None:
    """Sends this process SIGTERM in the chunk of that number."""
    train, calls, requests = Programs.train_chunk, 0, []
    make_request = sweep_progress.StopRequest

    def make(on_first: Any) -> Any:
        requests.append(make_request(on_first))
        return requests[-1]

    def interrupted(self: Programs, state: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGTERM)
            while requests[-1].signal_number is None:
                time.sleep(0.001)
        return train(self, state)

    patch.setattr(sweep_progress, "StopRequest", make)
    patch.setattr(Programs, "train_chunk", interrupted)


def test_a_stopped_sweep_goes_on_and_so_does_a_member_alone(tmp_path, swept, monkeypatch):
    folder = tmp_path / "sweep"
    with monkeypatch.context() as patch:
        _stop_in_chunk(11, patch)
        with pytest.raises(InterruptedRunError, match="muzero sweep --resume") as stopped:
            run_sweep(SWEEP, folder)
    assert stopped.value.exit_code == 143
    assert [row["status"] for row in table_without_times(folder)] == ["finished"]
    # The second member has been stopped in its third chunk; it is now continued by itself.
    second = folder / "members/setting-000/seed-3"
    assert load_run(second).num_env_steps == 192
    runner.resume(second)
    assert _report(second) == _report(swept / "members/setting-000/seed-3")
    assert run_sweep(SWEEP, folder)["finished"] == 4
    assert table_without_times(folder) == table_without_times(swept)


@pytest.mark.slow
def test_members_at_other_checkpoints_go_on_apart(tmp_path, monkeypatch):
    """One of a vmapped pair was continued alone for longer than the other's checkpoints reach."""
    folder, sweep = tmp_path / "sweep", dataclasses.replace(SWEEP, settings=RATES[:1])
    with monkeypatch.context() as patch:
        _stop_in_chunk(3, patch)
        with pytest.raises(InterruptedRunError):
            run_sweep(sweep, folder, width=2)
    run_dir = folder / "members/setting-000/seed-0"
    checkpoints = run_dir / "checkpoints"
    runner.resume(run_dir)
    (run_dir / "result.json").unlink()
    assert sorted(path.name for path in checkpoints.iterdir()) == ["384", "512"]
    assert run_sweep(sweep, folder, width=2)["finished"] == 2
    assert [row["env_steps"] for row in table_without_times(folder)] == ["512", "512"]


def test_a_member_without_its_checkpoints_fails_alone(swept, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(swept, tmp_path / "sweep"))
    lost = folder / "members/setting-001/seed-0"
    shutil.rmtree(lost / "checkpoints")
    (lost / "result.json").unlink()
    reported = _report(lost)
    monkeypatch.setattr(HostLoop, "finish", lambda self: pytest.fail("trained"))
    counts = run_sweep(SWEEP, folder)
    assert (counts["failed"], counts["finished"]) == (1, 3)
    assert "its checkpoints are gone" in json.loads((lost / "outcome.json").read_text())["reason"]
    assert _report(lost) == reported


def test_a_member_that_cannot_be_taken_up_fails_alone(swept, tmp_path, monkeypatch):
    """Of a block of four: one with damaged checkpoints, one with others, one at work elsewhere."""
    folder = Path(shutil.copytree(swept, tmp_path / "sweep"))
    members = [folder / member.folder for member in SWEEP.members()]
    for run_dir in members:
        (run_dir / "result.json").unlink()
    damaged, other, locked_one, good = members
    for record in damaged.glob("checkpoints/*/record/metadata"):
        record.write_text("{")
    for run_dir in (other / "checkpoints").iterdir():
        metadata = run_dir / "record/metadata"
        sealed = json.loads(metadata.read_text())
        del sealed["digest"]
        sealed["shapes"]["agent"] = {}
        metadata.write_text(json.dumps({**sealed, "digest": checkpoint._json_digest(sealed)}))
    seen = []
    monkeypatch.setattr(HostLoop, "__init__", lambda own, _, runs, *rest: seen.extend(runs))
    monkeypatch.setattr(HostLoop, "finish", lambda own: True)
    programs, stop = Programs(build(TINY)), types.SimpleNamespace(signal_number=None)
    listener = types.SimpleNamespace(note=lambda text: None)
    work = Grid(SWEEP.members(), folder, num_workers=1)
    with locked(locked_one), work.claim("") as claim:
        claim.extend(None)
        run_block(programs, claim.members, folder, stop, lambda member: listener)
    assert [run.run_dir for run in seen] == [good]
    outcomes = {run_dir: (run_dir / "outcome.json").exists() for run_dir in members}
    assert outcomes == {damaged: True, other: True, locked_one: False, good: False}
    assert "can be used" in json.loads((damaged / "outcome.json").read_text())["reason"]
    assert "does not fit" in json.loads((other / "outcome.json").read_text())["reason"]


def test_a_member_that_begins_anew_may_be_killed_at_any_moment(swept, tmp_path, monkeypatch):
    """A kill among the removals leaves no report of steps whose checkpoints are gone."""
    folder = Path(shutil.copytree(swept, tmp_path / "sweep"))
    member = SWEEP.members()[0]
    run_dir = folder / member.folder
    (run_dir / "result.json").unlink()

    def killed_after(path: Path, step: int) -> None:
        discard_after(path, step)
        raise KeyboardInterrupt

    monkeypatch.setattr(block, "discard_after", killed_after)
    with (
        pytest.raises(KeyboardInterrupt),
        block._opened([member], [Start()], folder, lambda member: None),
    ):
        pass
    assert checkpoint_steps(run_dir / "checkpoints") == []
    check_not_lost(run_dir, member.config)


def test_a_full_disk_stops_a_sweep_and_fails_no_member(swept, tmp_path, monkeypatch):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = Path(shutil.copytree(swept, tmp_path / "sweep"))
    (folder / "members/setting-001/seed-0/result.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(run_writer, "write_versions", full)
        with pytest.raises(
            DiskError, match=r"No space left.* continue with: muzero sweep --resume"
        ):
            run_sweep(SWEEP, folder)
    assert not list(folder.glob("members/*/*/outcome.json"))


def test_another_sweep_in_the_folder_is_refused(swept, tmp_path):
    def open_it(folder: Path, **changes: Any) -> None:
        with opened_sweep(folder, dataclasses.replace(SWEEP, **changes)):
            pass

    with pytest.raises(ConfigError, match=r"holds another sweep: seeds is \[0, 3\], asked for"):
        open_it(swept, seeds=(0, 1))
    with pytest.raises(ConfigError, match=r"target.td_lambda is 1.0, asked for 0.5"):
        open_it(swept, base=tiny(target__td_lambda=0.5))
    with pytest.raises(ConfigError, match=r"setting 1 is learning_rate=0.01, asked for none"):
        open_it(swept, settings=RATES[:1])
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty, and holds no sweep"):
        open_it(tmp_path)
    with locked(swept), pytest.raises(RunLockedError, match="another process"):
        open_it(swept)


def test_what_cannot_work_leaves_nothing_behind(tmp_path):
    bad = Sweep("tiny", TINY, (0,), ({"replay.capacity": 400_000_000},))
    with pytest.raises(DoesNotFitError, match="400,000,000 transitions take"):
        run_sweep(bad, tmp_path / "sweep")
    with pytest.raises(ConfigError, match="64 devices are asked for, but JAX finds"):
        sweep_runner.run_sweep(SWEEP, tmp_path / "sweep", num_devices=64)
    assert not (tmp_path / "sweep").exists()


def test_a_damaged_sweep_file_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="is not a sweep folder: there is no such folder"):
        load_sweep(tmp_path / "none")
    (tmp_path / "sweep.yaml").write_text("experiment: tiny")
    with pytest.raises(ConfigError, match="cannot be used: seeds is missing"):
        load_sweep(tmp_path)


class LinearPrograms:
    """In place of `Programs`: each run needs 10 bytes of state and 20 to work in."""

    def __init__(self, experiment: Any, width: int, device: jax.Device, memory_bytes: int):
        self.width, self.memory_bytes = width, memory_bytes
        self.shapes = [jax.ShapeDtypeStruct((10,), np.int8)]
        self.memory: ProgramMemory | None = None

    def compile(self) -> float:
        self.memory = ProgramMemory(10 * self.width, 20 * self.width)
        check_program_fits(self.memory, self.memory_bytes)
        return 0.0


@pytest.mark.parametrize(
    ("usable", "expected"), [(1000, 12), (360, 12), (359, 6), (179, 4), (100, 3), (59, 1)]
)
def test_width_is_what_the_compiled_program_leaves_room_for(monkeypatch, usable, expected):
    """On an accelerator: first by the states alone, then by the memory analysis, evenly filled."""
    monkeypatch.setattr(workers, "Programs", LinearPrograms)
    monkeypatch.setattr(workers, "_USABLE", 1.0)
    programs = size_programs(None, 12, types.SimpleNamespace(platform="gpu"), usable)
    assert programs.width == expected
    assert programs.memory.total_bytes <= usable


def test_a_width_that_was_asked_for_is_kept_or_refused(monkeypatch):
    monkeypatch.setattr(workers, "Programs", LinearPrograms)
    monkeypatch.setattr(workers, "_USABLE", 1.0)
    assert size_programs(None, 12, jax.devices()[0], 300, width=5).width == 5
    assert size_programs(None, 3, jax.devices()[0], 300, width=5).width == 3
    assert size_programs(None, 12, jax.devices()[0], 300).width == 1  # On a CPU.
    with pytest.raises(DoesNotFitError):
        size_programs(None, 12, jax.devices()[0], 300, width=11)
    with pytest.raises(DoesNotFitError):
        size_programs(None, 12, jax.devices()[0], 29)


def test_workers_share_a_group_only_where_no_other_is_left(tmp_path):
    """Settings that are not traced make two groups, of two and of three runs."""
    settings = ({"search.num_simulations": 2}, {"search.num_simulations": 3})
    members = Sweep("tiny", TINY, (0, 3, 4), settings).members()[1:]
    first, second = (group_key(members[number].config) for number in (0, 2))
    work = Grid(members, tmp_path, num_workers=2)
    with work.claim("") as one, work.claim("") as other:
        assert (one.members, other.members) == (members[:1], members[2:3])
        assert (one.num_runs, other.num_runs) == (2, 3)
        with work.claim(first) as more:
            assert more.members == members[1:2]
        one.extend(5)
        assert one.members == members[:2]
        with work.claim(first) as more:
            more.extend(5)
            assert more.members == members[3:]
            # Another process sees by the locks alone that nothing is free.
            for elsewhere in (work, Grid(members, tmp_path, num_workers=2)):
                with elsewhere.claim(second) as none:
                    assert none is None
    # Runs that are not over may be claimed again.
    with work.claim(second) as again:
        again.extend(None)
        assert again.members == members[2:]


def test_a_run_of_another_process_is_passed_over_and_hides_no_group(swept, tmp_path, capsys):
    """It is the first of its group, which seems to be another worker's."""
    folder = Path(shutil.copytree(swept, tmp_path / "sweep"))
    for name in ("seed-0", "seed-3"):
        (folder / "members/setting-001" / name / "result.json").unlink()
    held = folder / "members/setting-001/seed-0"
    with locked(held):
        assert run_sweep(SWEEP, folder)["finished"] == 3
    told = f"another process is writing the run folder {held}. It is passed over."
    assert told in capsys.readouterr().out


def test_an_unfinished_run_is_read_as_far_as_it_got(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _stop_in_chunk(2, patch)
        with pytest.raises(InterruptedRunError):
            run_sweep(SWEEP, tmp_path / "sweep")
    sweep = read_sweep(tmp_path / "sweep")
    (row,) = sweep.rows
    assert (row["status"], row["env_steps"]) == ("unfinished", 128)
    assert read_member(tmp_path / "sweep" / row["folder"]) == row
