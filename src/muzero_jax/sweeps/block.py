"""Runs that are advanced together on one device: taken up where they are, and brought to an end."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax

from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps, discard_after
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.errors import DiskError, RunError, RunLockedError
from muzero_jax.core.file_names import CHECKPOINTS_FOLDER, CONFIG_FILE, OUTCOME_FILE, RESULT_FILE
from muzero_jax.core.files import write_json, writing
from muzero_jax.process.signals import StopAsked
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.runs.continuing import forget_checkpoints
from muzero_jax.runs.host_loop import HostLoop, KeepGoing
from muzero_jax.runs.run_folder import locked, write_config
from muzero_jax.runs.run_start import Start, find_start
from muzero_jax.runs.run_writer import RunWriter
from muzero_jax.sweeps.definition import Member
from muzero_jax.tracking.progress import Listener

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

    A member that cannot be taken up fails alone, and one that another process works on is passed
    over, unless `keep_going` is given.

    Args:
      programs: compiled programs of the group.
      members: the runs of the block.
      folder: the sweep's folder.
      stop: is asked between chunks whether to save and stop.
      make_display: makes what is told how far a member is.
      compile_seconds: seconds that these runs have waited for `programs`.
      keep_going: decides at evaluations whether the runs go on, see `HostLoop`; with it all runs go
        in step, from a number of steps at which all can be taken up,
        and none goes on without the others.

    Returns:
      Whether they got to the end, which `keep_going` may prevent.

    Raises:
      InterruptedRunError: it was stopped; everything is saved.
      DiskError: the disk is full or read-only.
      RunError: `keep_going` is given, and a run cannot be taken up.
    """
    together = keep_going is not None
    with contextlib.ExitStack() as stack:
        pending = _lock_members(members, folder, stack, None if together else make_display)
        while pending:
            step, part = _at_one_step(pending, folder, all_of_them=together)
            starts, bad = _find_starts(part, folder, programs, step, passes_errors=together)
            pending = [member for member in pending if member not in bad]
            if bad or any(start.counters.env_steps != step for start in starts):
                continue  # Damaged checkpoints were set aside; the others decide anew.
            with _opened(part, starts, folder, make_display) as runs:
                for run in runs:
                    run.counters.compile_seconds += compile_seconds
                states = [start.state for start in starts if start.state is not None]
                del starts  # The states are donated: nobody else may hold them.
                go_on = keep_going or (lambda env_steps: True)
                if not HostLoop(programs, runs, states, stop, go_on, _MOST_SAVING).finish():
                    return False
            pending = [member for member in pending if member not in part]
    return True


def _lock_members(
    members: Sequence[Member],
    folder: Path,
    stack: contextlib.ExitStack,
    make_display: Callable[[Member], Listener] | None,
) -> list[Member]:
    """Takes the locks of the members that are not over, and returns those whose locks it got.

    Args:
      members: of the block.
      folder: of the sweep.
      stack: holds the locks.
      make_display: is told of a member that is passed over; an error where None.
    """
    taken = []
    for member in members:
        run_dir = folder / member.folder
        if is_over(run_dir):
            continue
        try:
            stack.enter_context(_member_folder(run_dir, member.config))
        except RunLockedError as error:
            if make_display is None:
                raise
            make_display(member).note(f"{error} It is passed over.")
            continue
        if not is_over(run_dir):  # Another process may have ended it since.
            taken.append(member)
    return taken


def _find_starts(
    members: Sequence[Member], folder: Path, programs: Programs, step: int, passes_errors: bool
) -> tuple[list[Start], list[Member]]:
    """Where members are taken up, and those that cannot be, which have failed.

    Args:
      members: of the block.
      folder: of the sweep.
      programs: of the group.
      step: no checkpoint of more environment steps is used.
      passes_errors: whether a member that cannot be taken up is an error of them all.
    """
    starts, bad = [], []
    for member in members:
        run_dir = folder / member.folder
        try:
            starts.append(find_start(run_dir, member.config, programs.shapes, step))
        except DiskError:
            raise
        except RunError as error:
            if passes_errors:
                raise
            give_up([member], folder, "failed", str(error))
            bad.append(member)
    return starts, bad


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
            if start.state is None:
                forget_checkpoints(run_dir)  # First, or a kill in between makes a lost run of it.
            discard_after(run_dir / CHECKPOINTS_FOLDER, start.counters.env_steps)
            runs.append(RunWriter(member.config, run_dir, start, make_display(member), started))
            stack.callback(runs[-1].close)
        yield runs
        for member, run in zip(members, runs, strict=True):
            if run.failure is not None:
                give_up([member], folder, "failed", str(run.failure))
