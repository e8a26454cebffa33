"""What a command says on stderr while it works, from before it loads what the work needs."""

import collections
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")

# The progress of a part, such as a chunk of a run, is reported at most this often.
_QUIET_SECONDS = 10.0


def announce(text: str) -> None:
    """Says what a command begins to do."""
    print(text, file=sys.stderr, flush=True)


def stage(text: str) -> None:
    """Says what a command does now, in a terminal only; a log shows the announcement alone."""
    if sys.stderr.isatty():
        announce(f"  {text}")


class Tally:
    """Counts the parts of a command's work, in any thread, and estimates how long the rest takes.

    Args:
      num_parts: number of parts.
      name: word for the parts, in the plural.
      details: text that is added to the first line.
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
        """Reports the share of one part that is done, from 0 to 1.

        A line appears only where none has appeared for a while.
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
        """Adds a line to the queue; the caller holds the lock."""
        self._told = time.monotonic()
        self._lines.append(f"{self._num_done}/{self._num_parts} {self._name} done{self._rest()}")

    def _print(self) -> None:
        """Prints the queued lines in order, without the lock, because a terminal may be stopped.

        One thread prints at a time, and nobody waits for it: it also prints lines that come while
        it prints.
        """
        while self._lines and self._printing.acquire(blocking=False):
            try:
                while self._lines:
                    announce(self._lines.popleft())
            finally:
                self._printing.release()

    def _rest(self) -> str:
        """The time that is left, estimated from the parts that are done."""
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
    """Gives items one after the other, and says after each how many `name` are done."""
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
