"""Who works on which run: locks of run folders, which the system releases however a process ends.

The members of a grid and the trials of a study are claimed in the same way. A claim lasts until its
context is left; a run that is not over by then may be claimed again.
"""

import collections
import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

from muzero_jax.core.errors import ConfigError, DoesNotFitError, RunLockedError
from muzero_jax.core.files import writing
from muzero_jax.runs.host_loop import KeepGoing
from muzero_jax.runs.run_folder import locked
from muzero_jax.sweeps.block import give_up, is_over
from muzero_jax.sweeps.definition import Member, group_key, group_members

LockState = Literal["claimed", "held", "over"]


class Locks:
    """The locks of the run folders in a sweep's folder, which this process writes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._held: dict[str, contextlib.ExitStack] = {}

    def claim(self, member: Member) -> LockState:
        """Locks a run folder, which is made where it is missing.

        Returns:
          `claimed`, `held` where somebody else has the lock, or `over` where the run needs none.

        Raises:
          DiskError: the disk is full or read-only.
          ConfigError: there is a link in the run folder.
        """
        run_dir = self.folder / member.folder
        if is_over(run_dir):
            return "over"
        with contextlib.ExitStack() as stack:
            with writing(run_dir):
                run_dir.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(locked(run_dir))
            except RunLockedError:
                return "held"
            if is_over(run_dir):  # Another process may have ended the run since.
                return "over"
            self._held[member.folder] = stack.pop_all()
        return "claimed"

    def release(self, member: Member) -> None:
        """Gives up the lock of a claimed run."""
        self._held.pop(member.folder).close()

    def release_all(self) -> None:
        """Gives up all locks: whoever they were held for is gone."""
        while self._held:
            self._held.popitem()[1].close()


@dataclasses.dataclass
class Pace:
    """What one worker has learned about time.

    Attributes:
      key: `group_key` of the runs that its programs can advance; empty before the first.
      compile_seconds: how long it compiled these programs.
      run_seconds: how long a run of its last block took: the block's seconds, divided by its runs.
    """

    key: str = ""
    compile_seconds: float = 0.0
    run_seconds: float = 0.0


class Claim:
    """Runs of one group that belong to one worker.

    Args:
      folder: the folder that the worker writes to.
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


class Work(Protocol):
    """What the workers of a sweep take their runs from; several threads ask it."""

    def claim(self, pace: Pace) -> contextlib.AbstractContextManager[Claim | None]:
        """Claims runs for a worker, as long as the context lasts; None where nothing is left."""
        ...


class _Group:
    """Runs that one compiled program can advance, without the runs that are known to be over."""

    def __init__(self, members: Sequence[Member], folder: Path):
        self.key = group_key(members[0].config)
        left = [(m.folder, m) for m in members if not is_over(folder / m.folder)]
        self.left = collections.OrderedDict(left)  # Unlike in a dict, its beginning goes quickly.
        self.num_at_first, self.num_claimed = len(self.left), 0

    def num_waiting(self) -> int:
        """How many runs are left that this process has not claimed."""
        return len(self.left) - self.num_claimed

    def take(self, locks: Locks, only_if_fresh: bool = False) -> Member | None:
        """Claims the first free run; with `only_if_fresh` only where no run before it is held."""
        over, taken = [], None
        for member in self.left.values():
            state = locks.claim(member)
            if state == "claimed":
                self.num_claimed += 1
                taken = member
                break
            if state == "over":
                over.append(member.folder)
            elif only_if_fresh:
                break
        for name in over:
            del self.left[name]
        return taken


class GridWork:
    """The runs of a sweep, group by group.

    Nobody keeps a list of who works on what: a run belongs to the holder of its lock, and somebody
    works on a group while its first run that is not over is locked.

    Args:
      members: all runs of the sweep.
      locks: the locks of the runs.
      num_workers: how many workers share the runs.
    """

    def __init__(self, members: Sequence[Member], locks: Locks, num_workers: int):
        self.folder, self.locks = locks.folder, locks
        self.guard = threading.Lock()
        self.groups = [_Group(group, self.folder) for group in group_members(members)]
        # With fewer groups than workers, several workers share a group.
        self.num_sharing = max(1, num_workers // len(self.groups))

    @contextlib.contextmanager
    def claim(self, pace: Pace) -> Iterator[Claim | None]:
        """Claims one run of the group that suits a worker best; see `Work`.

        A worker stays with the group that it has compiled. Then it takes a group that nobody works
        on, and only then helps with another worker's group, unless compiling would take longer than
        half of what waits there.
        """
        with self.guard:
            claim = self._first(pace)
        try:
            yield claim
        finally:
            if claim is not None:
                claim.release()

    def _first(self, pace: Pace) -> "_GridClaim | None":
        own = [group for group in self.groups if group.key == pace.key]
        others = [group for group in self.groups if group.key != pace.key]
        for group in [*own, *others]:
            if (member := group.take(self.locks, only_if_fresh=group not in own)) is not None:
                return _GridClaim(self, group, member)
        for group in sorted(others, key=lambda group: -group.num_waiting()):
            if group.num_waiting() * pace.run_seconds < 2 * pace.compile_seconds:
                return None
            if (member := group.take(self.locks)) is not None:
                return _GridClaim(self, group, member)
        return None


class _GridClaim(Claim):
    """Runs of one group of a grid."""

    def __init__(self, work: GridWork, group: _Group, first: Member):
        num_runs = -(-group.num_at_first // work.num_sharing)
        title = f"group {work.groups.index(group) + 1} of {len(work.groups)}"
        super().__init__(work.folder, [first], num_runs, title)
        self._work, self._group = work, group

    def extend(self, most: int | None) -> None:
        """Claims further runs of the group, until there are `most`, or all where that is None."""
        with self._work.guard:
            while most is None or len(self.members) < most:
                if (member := self._group.take(self._work.locks)) is None:
                    return
                self.members.append(member)

    def fail(self, error: Exception) -> None:
        """Records why the claimed runs that are not over have failed.

        Raises:
          ConfigError: the same settings were tried before, so that the fault is this machine's.
        """
        if isinstance(error, ConfigError) and not isinstance(error, DoesNotFitError):
            raise error
        super().fail(error)

    def release(self) -> None:
        """Gives up the locks."""
        with self._work.guard:
            self._group.num_claimed -= len(self.members)
            for member in self.members:
                self._work.locks.release(member)
