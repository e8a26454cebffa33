"""A block: runs that are advanced together on one device, from where they are to their end."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax

from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps, discard_after
from muzero_jax.core.errors import DiskError, RunError
from muzero_jax.core.file_names import CHECKPOINTS_FOLDER, CONFIG_FILE, OUTCOME_FILE, RESULT_FILE
from muzero_jax.core.files import write_json, writing
from muzero_jax.process.signals import StopAsked
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.runs.continuing import forget_checkpoints
from muzero_jax.runs.host_loop import HostLoop, KeepGoing
from muzero_jax.runs.run_folder import write_config
from muzero_jax.runs.run_start import Start, find_start
from muzero_jax.runs.run_writer import RunWriter
from muzero_jax.sweeps.definition import Member
from muzero_jax.tracking.progress import Listener

# These errors end a run but not the sweep.
FAILURES = (RunError, jax.errors.JaxRuntimeError)
# Many small runs would otherwise spend most of their time on checkpoints.
_MOST_SAVING = 0.1


def is_over(run_dir: Path) -> bool:
    """Whether a run is finished, has failed or was pruned."""
    return (run_dir / RESULT_FILE).exists() or (run_dir / OUTCOME_FILE).exists()


def give_up(members: Sequence[Member], folder: Path, status: str, reason: str) -> None:
    """Records why runs will not be finished; runs that are over stay as they are.

    Args:
      members: the runs.
      folder: the sweep's folder.
      status: `failed` or `pruned`.
      reason: a sentence for people.
    """
    for member in members:
        run_dir = folder / member.folder
        if not is_over(run_dir):
            run_dir.mkdir(parents=True, exist_ok=True)
            _write_settings(run_dir, member)
            write_json(run_dir / OUTCOME_FILE, {"status": status, "reason": reason})


def run_block(
    programs: Programs,
    members: Sequence[Member],
    folder: Path,
    stop: StopAsked,
    begin: Callable[[Member], Listener],
    compile_seconds: float = 0.0,
    keep_going: KeepGoing | None = None,
) -> None:
    """Runs members of one group until they are over, or `keep_going` or a failure ends a trial.

    A member that cannot be taken up fails; without `keep_going` the others go on.

    Args:
      programs: compiled programs of the group.
      members: runs that this process has claimed.
      folder: the sweep's folder.
      stop: is asked between chunks whether to save and stop.
      begin: notes that a run is taken up, and returns the listener that hears how far it is.
      compile_seconds: seconds that these runs have waited for `programs`.
      keep_going: decides at evaluations whether the runs go on, see `HostLoop`. With it all runs go
        in step, from a number of steps at which all can be taken up, and none goes on alone.

    Raises:
      InterruptedRunError: the sweep was stopped; everything is saved.
      DiskError: the disk is full or read-only.
    """
    together = keep_going is not None
    pending = [member for member in members if not is_over(folder / member.folder)]
    for member in pending:
        with writing(folder / member.folder):
            _write_settings(folder / member.folder, member)
    while pending:
        step, part = _at_one_step(pending, folder, all_of_them=together)
        starts, bad = _find_starts(part, folder, programs, step)
        if bad and together:
            return
        pending = [member for member in pending if member not in bad]
        if bad or any(start.counters.env_steps != step for start in starts):
            continue  # Damaged checkpoints were set aside; the other members decide anew.
        with _opened(part, starts, folder, begin) as runs:
            for run in runs:
                run.counters.compile_seconds += compile_seconds
            states = [start.state for start in starts if start.state is not None]
            del starts  # The states are donated: nobody else may hold them.
            go_on = keep_going or (lambda env_steps: True)
            if not HostLoop(programs, runs, states, stop, go_on, _MOST_SAVING).finish():
                return
        pending = [member for member in pending if member not in part]


def _write_settings(run_dir: Path, member: Member) -> None:
    if not (run_dir / CONFIG_FILE).exists():
        write_config(run_dir, member.config)


def _at_one_step(
    members: list[Member], folder: Path, all_of_them: bool
) -> tuple[int, list[Member]]:
    """A number of steps, and the members that can go on from it.

    A kill leaves the members of a block at one checkpoint or the next, and the older one serves
    all. A member that was continued alone since then goes on by itself.
    """
    checkpoints = [set(checkpoint_steps(folder / m.folder / CHECKPOINTS_FOLDER)) for m in members]
    common = set.intersection(*checkpoints)
    if common or all_of_them or not any(checkpoints):
        return max(common, default=0), members
    newest = [max(steps, default=0) for steps in checkpoints]
    furthest = max(newest)
    return furthest, [m for m, step in zip(members, newest, strict=True) if step == furthest]


def _find_starts(
    members: Sequence[Member], folder: Path, programs: Programs, step: int
) -> tuple[list[Start], list[Member]]:
    """Where members are taken up, at most at `step`, and the members that cannot be: they fail."""
    starts, bad = [], []
    for member in members:
        try:
            starts.append(find_start(folder / member.folder, member.config, programs.shapes, step))
        except DiskError:
            raise
        except RunError as error:
            give_up([member], folder, "failed", str(error))
            bad.append(member)
    return starts, bad


@contextlib.contextmanager
def _opened(
    members: Sequence[Member],
    starts: Sequence[Start],
    folder: Path,
    begin: Callable[[Member], Listener],
) -> Iterator[list[RunWriter]]:
    """Opens the writers of members; when they are closed, each failed member has its reason."""
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        runs = []
        for member, start in zip(members, starts, strict=True):
            run_dir = folder / member.folder
            if start.state is None:
                forget_checkpoints(run_dir)  # First, or a kill in between makes a lost run of it.
            discard_after(run_dir / CHECKPOINTS_FOLDER, start.counters.env_steps)
            runs.append(RunWriter(member.config, run_dir, start, begin(member), started))
            stack.callback(runs[-1].close)
        yield runs
        for member, run in zip(members, runs, strict=True):
            if run.failure is not None:
                give_up([member], folder, "failed", str(run.failure))
