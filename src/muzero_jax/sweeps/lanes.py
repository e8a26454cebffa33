"""A lane for each device: a thread that takes runs, group by group, until none are left."""

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax

from muzero_jax.core.errors import InterruptedRunError
from muzero_jax.process.signals import StopAsked
from muzero_jax.runs.memory import device_memory_bytes
from muzero_jax.sweeps.definition import Member


def memory_share(device: jax.Device, num_lanes: int) -> int:
    """Bytes that one lane may use: CPU devices share the machine's memory."""
    num_sharing = num_lanes if device.platform == "cpu" else 1
    return device_memory_bytes(device) // num_sharing


class Stop:
    """Asked to stop by a signal, or because a lane has broken down."""

    def __init__(self, request: StopAsked):
        self._request = request
        self.is_aborted = False

    @property
    def signal_number(self) -> int | None:
        """The signal; 0 where a lane broke down."""
        return 0 if self.is_aborted else self._request.signal_number


class Queue:
    """Runs that wait, by group, with a memory of who has begun which group; for several threads.

    Args:
      groups: runs that one compiled program can advance.
    """

    def __init__(self, groups: Sequence[Sequence[Member]]):
        self._lock = threading.Lock()
        self._waiting = [list(group) for group in groups]
        self._begun: set[int] = set()
        self._run_seconds = 0.0

    def choose_group(self, current: int | None, compile_seconds: float) -> int | None:
        """The group for a lane whose programs are those of `current`; None where none is left.

        A lane stays with the group that it has compiled, then takes one that nobody has begun, and
        only then helps another lane with its own, unless compiling would take longer than the half
        of what waits there.
        """
        with self._lock:
            waiting = [number for number, members in enumerate(self._waiting) if members]
            own = [number for number in waiting if number == current]
            fresh = [number for number in waiting if number not in self._begun]
            longest = sorted(waiting, key=lambda number: -len(self._waiting[number]))
            worth = [
                number
                for number in longest
                if len(self._waiting[number]) * self._run_seconds >= 2 * compile_seconds
            ]
            choice = next(iter([*own, *fresh, *worth]), None)
            if choice is not None:
                self._begun.add(choice)
            return choice

    def give_back(self, group: int, members: Sequence[Member]) -> None:
        """Runs that somebody else shall take: whoever had them is gone."""
        with self._lock:
            self._waiting[group] = [*members, *self._waiting[group]]

    def record(self, run_seconds: float) -> None:
        """Notes how long a run of the last block took; from that follows what is worth compiling.

        Args:
          run_seconds: the seconds of the block, divided by its number of runs.
        """
        self._run_seconds = run_seconds

    def take(self, group: int, most: int) -> list[Member]:
        """At most so many runs of a group; none where others were quicker."""
        with self._lock:
            taken, self._waiting[group] = self._waiting[group][:most], self._waiting[group][most:]
            return taken


def work_in_lanes(
    devices: Sequence[jax.Device], work: Callable[[jax.Device], None], stop: Stop
) -> None:
    """Calls `work` for each device, in a thread of its own, where that is the default device.

    Args:
      devices: one lane for each.
      work: returns when nothing is left to do, or raises.
      stop: see `in_threads`.

    Raises:
      Whatever the first of the lanes raised; a stop only if there was nothing worse.
    """

    def lane(device: jax.Device) -> None:
        with jax.default_device(device):
            work(device)

    in_threads([functools.partial(lane, device) for device in devices], stop)


def in_threads(functions: Sequence[Callable[[], None]], stop: Stop) -> None:
    """Calls each function in a thread of its own, and waits for all.

    Args:
      functions: return when nothing is left to do, or raise.
      stop: is aborted when one raises, so that the others stop as well.

    Raises:
      Whatever the first of them raised; a stop only if there was nothing worse.
    """

    def call(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException:
            stop.is_aborted = True
            raise

    with ThreadPoolExecutor(len(functions), thread_name_prefix="lane") as pool:
        calls = [pool.submit(call, function) for function in functions]
        errors = [error for one in calls if (error := one.exception()) is not None]
    errors.sort(key=lambda error: isinstance(error, InterruptedRunError))
    for error in errors:
        raise error
