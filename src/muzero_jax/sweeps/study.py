"""Running a study: each trial is a setting, its seeds side by side, judged at every evaluation."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from muzero_jax.config import ConfigError
from muzero_jax.core.errors import DiskError, InterruptedRunError
from muzero_jax.core.file_names import CONFIG_FILE, SWEEP_FILE
from muzero_jax.process.jax_process import prepare_devices
from muzero_jax.process.signals import StopAsked
from muzero_jax.reports.runs import read_run
from muzero_jax.reports.statistics import interquartile_mean
from muzero_jax.reports.sweep_table import read_member
from muzero_jax.runs.build import build
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.sweeps.block import FAILURES, give_up, is_over, run_block
from muzero_jax.sweeps.board import Board, stoppable
from muzero_jax.sweeps.definition import Member, Study, group_key, make_members
from muzero_jax.sweeps.fit import describe_fit, fit_programs
from muzero_jax.sweeps.folder import load_sweep, opened_sweep
from muzero_jax.sweeps.lanes import Stop, memory_share, work_in_lanes
from muzero_jax.sweeps.rounds import RoundTrials
from muzero_jax.sweeps.trials import Claim, Trials, import_optuna
from muzero_jax.tracking.wandb_sink import check_login


def run_study(
    study: Study,
    folder: Path,
    *,
    num_devices: int = 0,
    width: int = 0,
    stop_asked: StopAsked | None = None,
) -> dict[str, int]:
    """Runs a study, or what is left of it, together with any other process that does the same.

    A deterministic study is one process's: with as many trials a round, which is the number of
    devices that it was begun with, two of them choose, prune and find the same.

    Args:
      study: what to run.
      folder: new, empty, or one that holds this very study, which is then continued.
      num_devices: that work on it here; all where 0.
      width: seeds that a program advances at once; chosen where 0, see `fit_programs`.
      stop_asked: asked instead of the signals that this process gets.

    Returns:
      How many runs are finished, failed and so on, over all processes.

    Raises:
      ConfigError: a setting cannot work, the folder holds something else, or Optuna is missing;
        nothing is started or left behind.
      EnvironmentCreationError: there is no such environment, it cannot be made, or it is the
        user's own and breaks a rule of the protocol; nothing is started or left behind.
      RunLockedError: the study is deterministic, and another process works on it.
      InterruptedRunError: it was stopped; everything is saved.
    """
    import_optuna()
    check_login([study.base])
    devices = prepare_devices(num_devices)
    build(study.base)
    if study.is_deterministic and not study.round_size:
        study = dataclasses.replace(study, round_size=_round_size(folder) or len(devices))
    title = f"{study.describe()}, on {len(devices)} x {devices[0].device_kind}: {folder}"
    steps = study.base.total_env_steps
    board = Board(folder, study.varied, title, study.num_runs, steps, is_shared=True)
    with opened_sweep(folder, study), board, stoppable(board, stop_asked) as stop:
        work = _Work(study, folder, len(devices), width, stop, board)
        work_in_lanes(devices, work, stop)
    return board.counts()


def _round_size(folder: Path) -> int:
    """Trials of a round of the study that the folder holds; 0 where it holds none that has any."""
    held = load_sweep(folder) if (folder / SWEEP_FILE).exists() else None
    return held.round_size if isinstance(held, Study) else 0


class _Work:
    """What every lane does: it claims a trial, brings it to an end, and claims the next."""

    def __init__(
        self, study: Study, folder: Path, num_lanes: int, width: int, stop: Stop, board: Board
    ):
        self.study, self.folder, self.board, self.stop = study, folder, board, stop
        self.num_lanes, self.width = num_lanes, width
        is_in_rounds = study.is_deterministic
        self.trials = RoundTrials(folder, study, stop) if is_in_rounds else Trials(folder, study)

    def __call__(self, device: jax.Device) -> None:
        lane = _Lane(self, device)
        while self.stop.signal_number is None:
            with self.trials.claim() as claim:
                if claim is None:
                    return
                lane.work_on(claim)
        raise InterruptedRunError("stopped and saved", self.stop.signal_number)


class _Lane:
    """One device, with the programs of its last trial: the next may need the same."""

    def __init__(self, work: _Work, device: jax.Device):
        self.work, self.device = work, device
        self.key = ""
        self.programs: Programs | None = None

    def work_on(self, claim: Claim) -> None:
        """Brings a trial to an end, and tells the study."""
        work, study = self.work, self.work.study
        try:
            members = make_members(study.base, claim.number, claim.setting, study.seeds)
        except ConfigError as error:
            return work.trials.end(claim, "failed", str(error))
        work.board.expect(members)
        judge = _Judge(work.trials, claim, members, work.folder)
        if not judge.is_decided() and not all(map(is_over, judge.run_dirs)):
            try:
                self._run(members, judge)
            except (InterruptedRunError, DiskError):
                raise
            except (*FAILURES, ConfigError) as error:
                judge.give_up("failed", str(error))
        judge.end()
        work.board.end(members)
        return None

    def _run(self, members: Sequence[Member], judge: "_Judge") -> None:
        work, config = self.work, members[0].config
        began = time.perf_counter()
        if self.programs is None or self.key != group_key(config):
            self.programs = None  # Frees its memory before the next is compiled.
            memory_bytes = memory_share(self.device, work.num_lanes)
            self.programs = fit_programs(
                build(config), len(members), self.device, memory_bytes, work.width
            )
            self.key = group_key(config)
            work.board.note(f"on {self.device}: {describe_fit(self.programs, len(members))}")
        waited = time.perf_counter() - began
        display = work.board.begin
        keep_going = judge.keep_going
        run_block(self.programs, members, work.folder, work.stop, display, waited, keep_going)


class _Judge:
    """Decides about one trial: at each evaluation whether it goes on, and in the end what it is."""

    def __init__(self, trials: Trials, claim: Claim, members: Sequence[Member], folder: Path):
        self.trials, self.claim, self.members = trials, claim, members
        self.folder = folder
        self.run_dirs = [folder / member.folder for member in members]

    def is_decided(self) -> bool:
        """Whether a process that died after the decision, but before it told, has left it."""
        return any(row["status"] in ("failed", "pruned") for row in self._rows())

    def keep_going(self, env_steps: int) -> bool:
        """Reports the interquartile mean over the seeds; false where the pruner ends the trial."""
        scores = [self._score_at(run_dir, env_steps) for run_dir in self.run_dirs]
        if any(score is None for score in scores):
            return False  # A seed has failed, and with it the trial.
        value = float(interquartile_mean(np.array(scores)))
        step = env_steps // self.members[0].config.evaluation.interval
        if self.trials.report(self.claim, step, value):
            return True
        self.give_up("pruned", f"{value:.4g} after {env_steps:,} steps is behind other trials")
        return False

    def give_up(self, status: str, reason: str) -> None:
        """Says why the seeds that are not over will not be finished."""
        give_up(self.members, self.folder, status, reason)

    def end(self) -> None:
        """Tells the study how the trial ended."""
        rows = self._rows()
        for status in ("failed", "pruned"):
            reasons = [row["reason"] for row in rows if row["status"] == status]
            if reasons:
                self.give_up(status, f"another seed of this setting has {status}")
                return self.trials.end(self.claim, status, reasons[0])
        scores = np.array([row["score_mean"] for row in rows])
        return self.trials.end(self.claim, "finished", float(interquartile_mean(scores)))

    def _rows(self) -> list[dict[str, Any]]:
        begun = [run_dir for run_dir in self.run_dirs if (run_dir / CONFIG_FILE).is_file()]
        return [read_member(run_dir) for run_dir in begun]

    def _score_at(self, run_dir: Path, env_steps: int) -> float | None:
        if is_over(run_dir):
            return None
        table = read_run(run_dir).evaluation
        at = table.get("env_steps", np.zeros(0)) == env_steps
        return float(table["score_mean"][at][0]) if at.any() else None
