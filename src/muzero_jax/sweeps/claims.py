"""Who works on which run: locks of run folders, which the system releases however a process ends.

The members of a grid and the trials of a study are claimed in the same way. A claim lasts until its
context is left; a run that is not over by then may be claimed again.
"""

import collections
import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from muzero_jax.core.errors import RunLockedError
from muzero_jax.core.files import writing
from muzero_jax.runs.host_loop import KeepGoing
from muzero_jax.runs.run_folder import locked
from muzero_jax.sweeps.block import give_up, is_over
from muzero_jax.sweeps.definition import Member, group_key, group_members


def lock_run(run_dir: Path, stack: contextlib.ExitStack) -> None:
    """Locks a run folder, which is made where it is missing, until `stack` is closed.

    Raises:
      RunLockedError: somebody else has the lock.
      DiskError: the disk is full or read-only.
      ConfigError: there is a link in the run folder.
    """
    with writing(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
    stack.enter_context(locked(run_dir))


class Claim:
    """Runs of one group that belong to one worker.

    Args:
      folder: the sweep's folder.
      members: the claimed runs, at least one.
      num_runs: how many runs of the group the worker may get; its programs are sized for these.
      title: name of the group for people.
    """

    keep_going: KeepGoing | None = None  # See `run_block`.

    def __init__(self, folder: Path, members: list[Member], num_runs: int, title: str = ""):
        self.folder, self.members, self.num_runs, self.title = folder, members, num_runs, title

    def extend(self, most: int | None) -> None:
        """Claims further runs of the group, until there are `most`, or all where that is None."""

    def fail(self, error: Exception) -> None:
        """Records why the claimed runs that are not over have failed."""
        give_up(self.members, self.folder, "failed", str(error))

    def end(self) -> None:
        """Is called when nothing more is done for the claimed runs."""


class _Group:
    """Runs that one compiled program can advance, without the runs that are known to be over."""

    def __init__(self, folder: Path, members: Sequence[Member]):
        self.folder, self.key = folder, group_key(members[0].config)
        self.left = collections.deque(m for m in members if not is_over(folder / m.folder))
        self.num_at_first = len(self.left)

    def take(self, stack: contextlib.ExitStack, only_if_fresh: bool = False) -> Member | None:
        """Claims the first free run; with `only_if_fresh` only where no run before it is held."""
        seen, taken = list[Member](), None
        while self.left and taken is None and not (seen and only_if_fresh):
            member = self.left.popleft()
            if self._is_claimed(self.folder / member.folder, stack):
                taken = member
            if not is_over(self.folder / member.folder):
                seen.append(member)
        self.left.extendleft(reversed(seen))
        return taken

    def _is_claimed(self, run_dir: Path, stack: contextlib.ExitStack) -> bool:
        if is_over(run_dir):
            return False
        with contextlib.suppress(RunLockedError), contextlib.ExitStack() as own:
            lock_run(run_dir, own)
            if not is_over(run_dir):  # Another process may have ended the run since.
                stack.push(own.pop_all())
                return True
        return False


class Grid:
    """The runs of a sweep, group by group, as the work of its workers.

    Somebody works on a group while its first run that is not over is locked.

    Args:
      members: all runs of the sweep.
      folder: the sweep's folder.
      num_workers: how many workers share the runs, in this process and in others.
    """

    def __init__(self, members: Sequence[Member], folder: Path, num_workers: int):
        self.folder, self.guard = folder, threading.Lock()
        self.groups = [_Group(folder, group) for group in group_members(members)]
        # With fewer groups than workers, several workers share a group.
        self.num_sharing = max(1, num_workers // len(self.groups))

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[Claim | None]:
        """Claims a run for a worker as long as the context lasts; None where nothing is left.

        A worker stays with the group of the `key` that it has compiled. Then it takes a group that
        nobody works on, and only then helps with another worker's group.
        """
        with contextlib.ExitStack() as stack:
            with self.guard:
                claim = self._first(key, stack)
            yield claim

    def _first(self, key: str, stack: contextlib.ExitStack) -> "_GridClaim | None":
        own = [(group, False) for group in self.groups if group.key == key]
        fresh = [(group, True) for group in self.groups]
        held = [(group, False) for group in self.groups]
        for group, only_if_fresh in [*own, *fresh, *held]:
            if (member := group.take(stack, only_if_fresh)) is not None:
                return _GridClaim(self, group, member, stack)
        return None


class _GridClaim(Claim):
    """Runs of one group of a grid."""

    def __init__(self, grid: Grid, group: _Group, first: Member, stack: contextlib.ExitStack):
        num_runs = -(-group.num_at_first // grid.num_sharing)
        title = f"group {grid.groups.index(group) + 1} of {len(grid.groups)}"
        super().__init__(grid.folder, [first], num_runs, title)
        self._guard, self._group, self._stack = grid.guard, group, stack

    def extend(self, most: int | None) -> None:
        """Claims further runs of the group, until there are `most`, or all where that is None."""
        with self._guard:
            while most is None or len(self.members) < most:
                if (member := self._group.take(self._stack)) is None:
                    return
                self.members.append(member)
