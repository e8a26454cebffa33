"""The one owner of what a command shows: a thread that prints the lines and draws the picture."""

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

Draw = Callable[[], Any]


class Screen:
    """Lines that stay, and in a terminal a picture below them that is drawn again and again.

    Any thread may call `print`, also one that answers signals: the call puts the line into a queue
    and never waits. The screen's own thread takes the lines out; it alone writes to the terminal
    and calls rich, and it holds nobody's lock while it does. So a terminal that is slow, stopped or
    closed does not hold up the work.

    Where nobody reads any more, the screen falls silent and the work goes on. A picture that cannot
    be drawn ends with a notice, and the lines go on.

    Args:
      draw: makes the picture, something that rich can print; the screen's thread calls it. None
        where there is no picture.
      draws_per_second: how often the picture is drawn.
    """

    def __init__(self, draw: Draw | None = None, draws_per_second: float = 4.0):
        self._draw, self._period = draw, 1.0 / draws_per_second
        # Of the standard library's queues this one may be put to from everywhere, without a lock.
        self._lines: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._has_ended = threading.Event()
        self._is_silent = False
        self._picture: _Picture | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._draw is not None:
            self._picture = _Picture(self._draw)
        self._thread = threading.Thread(target=self._show, name="screen", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._thread is not None
        self._lines.put(None)
        self._thread.join()
        self._has_ended.set()
        self._print_waiting()

    def print(self, text: str, style: str = "") -> None:
        """Hands over a line that stays; a line that comes too early or too late is shown as well.

        Args:
          text: the line.
          style: rich's name of how it looks beside a picture, for example `dim`.
        """
        self._lines.put((text, style))
        if self._has_ended.is_set():
            self._print_waiting()

    def _show(self) -> None:
        """What the screen's thread does, until it is told to end."""
        if self._picture is not None:
            self._guard(self._picture.start)
        next_drawing = 0.0
        while True:
            if self._picture is not None and time.monotonic() >= next_drawing:
                self._guard(self._redraw)
                next_drawing = time.monotonic() + self._period
            waiting = None if self._picture is None else max(next_drawing - time.monotonic(), 0.0)
            try:
                line = self._lines.get(timeout=waiting)
            except queue.Empty:
                continue
            if line is None:
                break
            self._show_line(*line)
        if self._picture is not None:
            self._guard(self._redraw)
            self._guard(self._end_picture)

    def _show_line(self, text: str, style: str) -> None:
        def show() -> None:
            if self._picture is not None:
                self._picture.print(text, style)
            else:
                print(text, flush=True)

        self._guard(show)

    def _redraw(self) -> None:
        if self._picture is not None:
            self._picture.redraw()

    def _end_picture(self) -> None:
        picture, self._picture = self._picture, None
        if picture is not None:
            picture.stop()

    def _print_waiting(self) -> None:
        """Prints lines that came after the thread had ended."""
        with contextlib.suppress(queue.Empty):
            while True:
                line = self._lines.get_nowait()
                if line is not None:
                    self._show_line(*line)

    def _guard(self, show: Callable[[], None]) -> None:
        """Calls `show`; what it meets must not end the work that is shown.

        Args:
          show: writes to the terminal, to the picture as long as there is one.
        """
        if self._is_silent:
            return
        try:
            show()
        except (OSError, SystemExit):  # rich asks to exit where it finds a closed pipe.
            self._fall_silent()
        except Exception as error:
            if self._picture is None:
                return self._fall_silent()  # stdout is closed or cannot hold any text.
            with contextlib.suppress(Exception, SystemExit):
                self._end_picture()
            told = f"{type(error).__name__}: {error}"
            self._show_line(f"notice: the live display has ended ({told}); lines go on.", "")
            self._guard(show)

    def _fall_silent(self) -> None:
        """Nobody reads: whatever is printed from now on is thrown away."""
        self._is_silent = True
        with contextlib.suppress(Exception, SystemExit):
            self._end_picture()
        # What Python has kept for stdout must not fail once more when the process ends.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


class _Picture:
    """A picture in a terminal; only the screen's thread uses it."""

    def __init__(self, draw: Draw):
        from rich.console import Console
        from rich.live import Live

        self._draw, self._console = draw, Console()
        # Without rich's own thread. Others' prints, such as warnings, go above the picture: rich
        # then repeats the last drawing, and never calls `draw` itself.
        self._live = Live(console=self._console, auto_refresh=False)

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        self._live.stop()

    def redraw(self) -> None:
        self._live.update(self._draw(), refresh=True)

    def print(self, text: str, style: str) -> None:
        self._console.print(
            text, style=style, markup=False, emoji=False, highlight=False, soft_wrap=True
        )
