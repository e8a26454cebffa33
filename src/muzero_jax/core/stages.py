"""What a command says on stderr while it works, so that nobody waits in front of nothing.

Results go to stdout, and nothing here does: `--json` stays one object. Nothing here imports JAX: a
command announces its work before it loads what the work needs.
"""

import collections
import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")

_PATIENCE_SECONDS = 0.5
# A part of a part, such as a chunk of a run, is told of no more often than that.
_QUIET_SECONDS = 10.0


def announce(text: str) -> None:
    """Says what a command begins to do."""
    print(text, file=sys.stderr, flush=True)


def stage(text: str) -> None:
    """Says what a command does now, in a terminal only: a log needs no more than the beginning."""
    if sys.stderr.isatty():
        announce(f"  {text}")


@contextlib.contextmanager
def announced_if_slow(text: str) -> Iterator[None]:
    """Says what is being done where that takes longer than half a second."""
    timer = threading.Timer(_PATIENCE_SECONDS, announce, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Tally:
    """How many of a known number of parts are done, and how long the rest will take.

    Several threads may report to one tally.

    Args:
      num_parts: how many parts there are.
      name: what the parts are called, in the plural.
      details: what else is said at the beginning.
    """

    def __init__(self, num_parts: int, name: str, details: str = ""):
        self._num_parts, self._name = num_parts, name
        self._lock = threading.Lock()
        self._lines = collections.deque[str]()
        self._printing = threading.Lock()
        self._num_done, self._shares = 0, dict[str, float]()
        self._began = self._told = time.monotonic()
        announce(f"{num_parts} {name}{details}")

    def advance(self, part: str, share: float) -> None:
        """Reports how far one part is; said only where nothing has been said for a while.

        Args:
          part: name of the part.
          share: what is done of it, from 0 to 1; 0 where it has just begun.
        """
        with self._lock:
            self._shares[part] = share
            if time.monotonic() - self._told >= _QUIET_SECONDS:
                self._compose()
        self._print()

    def finish(self, part: str) -> None:
        """Reports that one part is done."""
        with self._lock:
            self._shares.pop(part, None)
            self._num_done += 1
            self._compose()
        self._print()

    def _compose(self) -> None:
        """Adds a line to those that wait; called with the lock held."""
        self._told = time.monotonic()
        self._lines.append(f"{self._num_done}/{self._num_parts} {self._name} done{self._rest()}")

    def _print(self) -> None:
        """Prints the lines that wait, in order, without the lock: a terminal may be stopped.

        Nobody waits for a thread that prints; that thread prints what comes meanwhile as well.
        """
        while self._lines and self._printing.acquire(blocking=False):
            try:
                while self._lines:
                    announce(self._lines.popleft())
            finally:
                self._printing.release()

    def _rest(self) -> str:
        """How long the parts that are not done will take, from those that are."""
        if self._num_done == self._num_parts:
            return ""
        if self._num_done == 0:
            # A part may begin with compiling: its share says nothing about seconds.
            return f", the furthest at {max(self._shares.values()):.0%}"
        made = self._num_done + sum(max(share, 0.5) for share in self._shares.values())
        made = min(made, self._num_parts - 0.5)
        left = (self._told - self._began) * (self._num_parts - made) / made
        return f", about {clock(left)} left"


def each(items: Sequence[ItemT], name: str) -> Iterator[ItemT]:
    """Gives items one after the other, and says after each how many are done.

    Args:
      items: the items.
      name: what they are called, in the plural.
    """
    if not items:
        return
    tally = Tally(len(items), name)
    for item in items:
        yield item
        tally.finish(str(item))


def clock(seconds: float) -> str:
    """A duration as minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
