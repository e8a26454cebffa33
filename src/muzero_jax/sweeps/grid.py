"""Running a sweep: its settings and seeds, group by group, in lanes over the devices."""

import time
from collections.abc import Sequence
from pathlib import Path

import jax

from muzero_jax.core.errors import DiskError, DoesNotFitError, InterruptedRunError
from muzero_jax.process.jax_process import prepare_devices
from muzero_jax.runs.build import Experiment, build
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.sweeps.block import FAILURES, give_up, is_over, run_block
from muzero_jax.sweeps.board import Board, stoppable
from muzero_jax.sweeps.definition import Member, Sweep, group_members
from muzero_jax.sweeps.fit import describe_fit, fit_programs
from muzero_jax.sweeps.folder import opened_sweep
from muzero_jax.sweeps.lanes import Queue, Stop, memory_share, work_in_lanes
from muzero_jax.tracking.wandb_sink import check_login


def run_sweep(
    sweep: Sweep, folder: Path, *, num_devices: int = 0, width: int = 0
) -> dict[str, int]:
    """Runs a sweep, or what is left of it; its table lies in the folder.

    Args:
      sweep: what to run.
      folder: of the sweep; new, empty, or one that holds this very sweep, which is then continued.
      num_devices: that work on it; all where 0.
      width: runs that a program advances at once; chosen where 0, see `fit_programs`.

    Returns:
      How many runs are finished, failed and so on.

    Raises:
      ConfigError: a setting cannot work, or the folder is used; nothing is started or left behind.
      EnvironmentCreationError: there is no such environment, it cannot be made, or it is the
        user's own and breaks a rule of the protocol; nothing is started or left behind.
      RunLockedError: another process works on this sweep.
      InterruptedRunError: it was stopped; everything is saved.
    """
    members = sweep.members()
    groups = group_members(members)
    check_login(group[0].config for group in groups)
    devices = prepare_devices(num_devices)
    experiments = [build(group[0].config) for group in groups]
    for experiment in experiments:
        Programs(experiment, memory_bytes=memory_share(devices[0], len(devices)))  # It may raise.
    where = f"{len(devices)} x {devices[0].device_kind}"
    title = f"{sweep.describe()}, {len(groups)} compiled groups, on {where}: {folder}"
    board = Board(folder, sweep.varied, title, sweep.num_runs, sweep.base.total_env_steps)
    board.expect(members)
    with opened_sweep(folder, sweep), board, stoppable(board) as stop:
        work = _Work(folder, experiments, groups, len(devices), width, stop, board)
        work_in_lanes(devices, work, stop)
    return board.counts()


class _Work:
    """What every lane does: programs for a group, then its runs, then the next group."""

    def __init__(
        self,
        folder: Path,
        experiments: Sequence[Experiment],
        groups: Sequence[Sequence[Member]],
        num_lanes: int,
        width: int,
        stop: Stop,
        board: Board,
    ):
        self.folder, self.experiments, self.board, self.stop = folder, experiments, board, stop
        self.num_lanes, self.width = num_lanes, width
        self.left = [[m for m in g if not is_over(folder / m.folder)] for g in groups]
        self.queue = Queue(self.left)

    def __call__(self, device: jax.Device) -> None:
        group, compile_seconds = None, 0.0
        while (group := self.queue.choose_group(group, compile_seconds)) is not None:
            if self.stop.signal_number is not None:
                raise InterruptedRunError("stopped and saved", self.stop.signal_number)
            compile_seconds = self._work_on(group, device)

    def _work_on(self, group: int, device: jax.Device) -> float:
        """Ends all runs of a group that this lane can get; returns the seconds of compiling."""
        began = time.perf_counter()
        # With fewer groups than lanes, each of several lanes takes its part of one.
        num_sharing = max(1, self.num_lanes // len(self.left))
        num_runs = -(-len(self.left[group]) // num_sharing)
        memory_bytes = memory_share(device, self.num_lanes)
        try:
            programs = fit_programs(
                self.experiments[group], num_runs, device, memory_bytes, self.width
            )
        except DoesNotFitError as error:
            self._give_up(self.queue.take(group, len(self.left[group])), str(error))
            return 0.0
        told = describe_fit(programs, len(self.left[group]))
        self.board.note(f"group {group + 1} of {len(self.left)} on {device}: {told}")
        compile_seconds = time.perf_counter() - began
        waited = compile_seconds
        while members := self.queue.take(group, programs.width):
            began = time.perf_counter()
            try:
                run_block(programs, members, self.folder, self.stop, self.board.begin, waited)
            except (InterruptedRunError, DiskError):
                raise
            except FAILURES as error:
                self._give_up(members, str(error))
            self.board.end(members)
            self.queue.record((time.perf_counter() - began) / len(members))
            waited = 0.0
        return compile_seconds

    def _give_up(self, members: Sequence[Member], reason: str) -> None:
        """Records runs that cannot be worked on, which does not end the sweep."""
        give_up(members, self.folder, "failed", reason)
        self.board.end(members)
