"""The terminal's one owner: a thread that prints all lines of a command and draws its picture."""

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Self

Draw = Callable[[], Any]


class Screen:
    """Shows lines that stay, and below them in a terminal a picture that is drawn again and again.

    Any thread may call `print`, also a thread that answers signals: the call puts the line into a
    queue and never waits. The screen's own thread alone writes to the terminal and calls rich, and
    it holds no lock meanwhile. So a terminal that is slow, stopped or closed does not hold up the
    work. If the output has lost its reader, the screen falls silent. If the picture cannot be
    drawn, it ends with a notice, and the lines go on.

    Args:
      draw: function that makes a picture for rich to print, called by the screen's thread; None for
        a screen without a picture.
      draws_per_second: number of drawings per second.
    """

    def __init__(self, draw: Draw | None = None, draws_per_second: float = 4.0):
        self._draw, self._period = draw, 1.0 / draws_per_second
        # This is the standard library's only queue that can be filled from everywhere, lock-free.
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

    def __exit__(self, *error: object) -> None:
        assert self._thread is not None
        self._lines.put(None)
        self._thread.join()
        self._has_ended.set()
        self._print_waiting()

    def print(self, text: str, style: str = "") -> None:
        """Hands over a line that stays; lines before and after the block are shown too.

        `style` is rich's name of a style, for example `dim`, which is used beside a picture.
        """
        self._lines.put((text, style))
        if self._has_ended.is_set():
            self._print_waiting()

    def _show(self) -> None:
        """Prints and draws in the screen's thread, until `None` comes out of the queue."""
        if self._picture is not None:
            self._guard(self._picture.live.start)
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
            picture.live.stop()

    def _print_waiting(self) -> None:
        """Prints the lines that came after the thread had ended."""
        with contextlib.suppress(queue.Empty):
            while True:
                line = self._lines.get_nowait()
                if line is not None:
                    self._show_line(*line)

    def _guard(self, show: Callable[[], None]) -> None:
        """Calls `show`, which writes to the terminal; its errors must not end the work."""
        if self._is_silent:
            return
        try:
            show()
        except (OSError, SystemExit):  # rich asks to exit where it finds a closed pipe.
            self._fall_silent()
        except Exception as error:
            if self._picture is None:
                return self._fall_silent()  # stdout is closed, or accepts no text.
            with contextlib.suppress(Exception, SystemExit):
                self._end_picture()
            told = f"{type(error).__name__}: {error}"
            self._show_line(f"notice: the live display has ended ({told}); lines go on.", "")
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


class _Picture:
    """A picture in a terminal; only the screen's thread uses it."""

    def __init__(self, draw: Draw):
        from rich.console import Console
        from rich.live import Live

        self._draw, self._console = draw, Console()
        # rich's own thread is not used. rich shows prints of others, such as warnings, above the
        # picture and repeats the last drawing; it never calls `draw` itself.
        self.live = Live(console=self._console, auto_refresh=False)

    def redraw(self) -> None:
        self.live.update(self._draw(), refresh=True)

    def print(self, text: str, style: str) -> None:
        self._console.print(
            text, style=style, markup=False, emoji=False, highlight=False, soft_wrap=True
        )
