"""Runs that are advanced together on one device: taken up where they are, and brought to an end."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax

from muzero_jax.analysis.sweep_table import OUTCOME_FILE
from muzero_jax.config import ExperimentConfig
from muzero_jax.files import write_json
from muzero_jax.sweeps.definition import Member
from muzero_jax.training.checkpoint_folder import checkpoint_steps, discard_after
from muzero_jax.training.disk import writing
from muzero_jax.training.errors import LostCheckpointsError, RunError
from muzero_jax.training.lockstep import KeepGoing, Lockstep
from muzero_jax.training.lost_checkpoints import check_not_lost
from muzero_jax.training.programs import Programs
from muzero_jax.training.progress import Listener
from muzero_jax.training.run_folder import (
    CHECKPOINTS_FOLDER,
    CONFIG_FILE,
    RESULT_FILE,
    locked,
    write_config,
)
from muzero_jax.training.run_start import Start, find_start
from muzero_jax.training.run_writer import RunWriter
from muzero_jax.training.signals import StopAsked

# What ends a run but not the sweep: errors of its own, and of its compiled programs.
FAILURES = (RunError, jax.errors.JaxRuntimeError)
# Many small runs would otherwise spend most of their time on checkpoints.
_MOST_SAVING = 0.1


def is_over(run_dir: Path) -> bool:
    """Whether nothing is left to do for a run: it is finished, or has failed or been pruned."""
    return (run_dir / RESULT_FILE).exists() or (run_dir / OUTCOME_FILE).exists()


def give_up(members: Sequence[Member], folder: Path, status: str, reason: str) -> None:
    """Says of the runs that are not over why they will not be finished.

    Args:
      members: of the sweep.
      folder: of the sweep.
      status: `failed` or `pruned`.
      reason: for people.
    """
    for member in members:
        run_dir = folder / member.folder
        if not is_over(run_dir):
            run_dir.mkdir(parents=True, exist_ok=True)
            if not (run_dir / CONFIG_FILE).exists():
                write_config(run_dir, member.config)
            write_json(run_dir / OUTCOME_FILE, {"status": status, "reason": reason})


def run_block(
    programs: Programs,
    members: Sequence[Member],
    folder: Path,
    stop: StopAsked,
    make_display: Callable[[Member], Listener],
    compile_seconds: float = 0.0,
    keep_going: KeepGoing | None = None,
) -> bool:
    """Runs members of one group until they are over; those that are so already are left out.

    Args:
      programs: of the group.
      members: of the block.
      folder: of the sweep.
      stop: asked between chunks.
      make_display: tells what a member does.
      compile_seconds: that these runs have waited for `programs`.
      keep_going: see `Lockstep`; with it all runs go in step, from a number of steps at which all
        can be taken up.

    Returns:
      Whether they got to the end, which `keep_going` may prevent.

    Raises:
      InterruptedRunError: it was stopped; everything is saved.
      DiskError: the disk is full or read-only.
      RunError: a run cannot be taken up; its checkpoints are damaged, or another process is at it.
    """
    pending = [member for member in members if not is_over(folder / member.folder)]
    with contextlib.ExitStack() as stack:
        for member in pending:
            stack.enter_context(_member_folder(folder / member.folder, member.config))
        pending = [member for member in pending if _can_go_on(member, folder)]
        while pending:
            step, part = _at_one_step(pending, folder, all_of_them=keep_going is not None)
            starts = [find_start(folder / m.folder, m.config, programs.shapes, step) for m in part]
            if any(start.counters.env_steps != step for start in starts):
                continue  # Damaged checkpoints were set aside; the others decide anew.
            with _opened(part, starts, folder, make_display) as runs:
                for run in runs:
                    run.counters.compile_seconds += compile_seconds
                states = [start.state for start in starts if start.state is not None]
                del starts  # The states are donated: nobody else may hold them.
                go_on = keep_going or (lambda env_steps: True)
                if not Lockstep(programs, runs, states, stop, go_on, _MOST_SAVING).finish():
                    return False
            pending = [member for member in pending if member not in part]
    return True


def _can_go_on(member: Member, folder: Path) -> bool:
    """Whether a member is what it was when it was last worked on; one that is not has failed."""
    run_dir = folder / member.folder
    try:
        check_not_lost(run_dir, member.config)
    except LostCheckpointsError as error:
        give_up([member], folder, "failed", str(error))
        return False
    return True


@contextlib.contextmanager
def _member_folder(run_dir: Path, config: ExperimentConfig) -> Iterator[None]:
    """Makes a member's run folder unless it is there, and holds its lock."""
    with writing(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
    with locked(run_dir):
        if not (run_dir / CONFIG_FILE).exists():
            with writing(run_dir):
                write_config(run_dir, config)
        yield


def _at_one_step(
    members: list[Member], folder: Path, all_of_them: bool
) -> tuple[int, list[Member]]:
    """Members that can go on from one number of steps, and that number.

    A kill leaves those of a block at one checkpoint or the next; then the older one serves all. A
    member that was continued alone since then goes on by itself.
    """
    checkpoints = [set(checkpoint_steps(folder / m.folder / CHECKPOINTS_FOLDER)) for m in members]
    common = set.intersection(*checkpoints)
    if common or all_of_them or not any(checkpoints):
        return max(common, default=0), members
    newest = [max(steps, default=0) for steps in checkpoints]
    furthest = max(newest)
    return furthest, [m for m, step in zip(members, newest, strict=True) if step == furthest]


@contextlib.contextmanager
def _opened(
    members: Sequence[Member],
    starts: Sequence[Start],
    folder: Path,
    make_display: Callable[[Member], Listener],
) -> Iterator[list[RunWriter]]:
    """The writers of some members; afterwards those that have failed say why."""
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        runs = []
        for member, start in zip(members, starts, strict=True):
            run_dir = folder / member.folder
            discard_after(run_dir / CHECKPOINTS_FOLDER, start.counters.env_steps)
            runs.append(RunWriter(member.config, run_dir, start, make_display(member), started))
            stack.callback(runs[-1].close)
        yield runs
        for member, run in zip(members, runs, strict=True):
            if run.failure is not None:
                give_up([member], folder, "failed", str(run.failure))
