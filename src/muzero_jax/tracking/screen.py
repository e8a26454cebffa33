"""The terminal's one owner: a thread that prints all lines of a command and draws its picture."""

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self

from muzero_jax.core.terminal import is_live

_SECONDS_BETWEEN_DRAWINGS = 0.125


class Row(NamedTuple):
    """A row of the picture: its name, a text, and a bar where `share` says how full it is."""

    name: str
    text: str
    share: float | None = None


class Screen:
    """Shows lines that stay, and below them in a terminal a picture that is drawn again and again.

    Any thread may call `print`, also a thread that answers signals: the call never waits. The
    screen's own thread alone writes to the terminal and calls rich, and it holds no lock meanwhile,
    so that a terminal that is slow, stopped or closed does not hold up the work. If the output has
    lost its reader, the screen falls silent. If the picture cannot be drawn, it ends with a notice.

    Args:
      rows: function that returns the rows of the picture at once, called by the screen's thread.
    """

    def __init__(self, rows: Callable[[], Iterable[Row]]):
        self._rows = rows
        # This is the standard library's only queue that can be filled from everywhere, lock-free.
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._has_ended = self._is_silent = False
        self._live: Any = None
        self._thread = threading.Thread(target=self._show, name="screen", daemon=True)

    def __enter__(self) -> Self:
        if is_live():
            from rich.console import Console
            from rich.live import Live

            # rich's own thread is not used. rich shows prints of others, such as warnings, above
            # the picture and repeats the last drawing; it never asks for the rows itself.
            self._live = Live(console=Console(), auto_refresh=False)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._has_ended = True
        self._lines.put(None)
        self._thread.join()

    @property
    def has_picture(self) -> bool:
        """Whether a picture is drawn."""
        return self._live is not None

    def print(self, text: str) -> None:
        """Hands over a line that stays; lines before and after the block are shown too."""
        if not self._has_ended:
            return self._lines.put(text)
        with contextlib.suppress(OSError, ValueError):  # Nobody reads it any more.
            print(text, flush=True)

    def _show(self) -> None:
        """Prints and draws in the screen's thread, until `None` comes out of the queue."""
        next_drawing = 0.0
        while True:
            if self.has_picture and time.monotonic() >= next_drawing:
                self._guard(self._draw)
                next_drawing = time.monotonic() + _SECONDS_BETWEEN_DRAWINGS
            waiting = max(next_drawing - time.monotonic(), 0.0) if self.has_picture else None
            try:
                line = self._lines.get(timeout=waiting)
            except queue.Empty:
                continue
            if line is None:
                break
            self._show_line(line)
        self._guard(self._draw)
        self._guard(self._end_picture)

    def _draw(self) -> None:
        if self._live is not None:
            self._live.start()  # This does nothing if it has started.
            self._live.update(picture(self._rows()), refresh=True)

    def _end_picture(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _show_line(self, text: str) -> None:
        def show() -> None:
            if self._live is None:
                return print(text, flush=True)
            plain = {"markup": False, "emoji": False, "highlight": False}
            return self._live.console.print(text, soft_wrap=True, **plain)

        self._guard(show)

    def _guard(self, show: Callable[[], None]) -> None:
        """Calls `show`, which writes to the terminal; its errors must not end the work."""
        if self._is_silent:
            return
        try:
            show()
        except (OSError, SystemExit):  # rich asks to exit where it finds a closed pipe.
            self._fall_silent()
        except Exception as error:
            if self._live is None:
                return self._fall_silent()  # stdout is closed, or accepts no text.
            with contextlib.suppress(Exception, SystemExit):
                self._end_picture()
            told = f"{type(error).__name__}: {error}"
            self._show_line(f"notice: the live display has ended ({told}); lines go on.")
            self._guard(show)

    def _fall_silent(self) -> None:
        """Throws away everything that is printed from now on, because nobody reads it."""
        self._is_silent = True
        with contextlib.suppress(Exception, SystemExit):
            self._end_picture()
        # Text that Python still holds for stdout must not fail again when the process ends.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def picture(rows: Iterable[Row]) -> Any:
    """A table that rich can print."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    for name, text, share in rows:
        cell: Any = Text(text)
        if share is not None:
            cell = Table.grid(padding=(0, 2))
            cell.add_row(ProgressBar(total=1.0, completed=share, width=30), Text(text))
        table.add_row(Text(name), cell)
    return table
