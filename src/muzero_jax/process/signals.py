"""Stopping at a good moment: the first signal asks, a second Ctrl-C insists."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # The last says that the terminal was closed.
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class StopAsked(Protocol):
    """Whether to stop at the next good moment, and for which signal."""

    @property
    def signal_number(self) -> int | None:
        """The signal, or None."""
        ...


class StopRequest:
    """While it is entered, Ctrl-C, SIGTERM and SIGHUP are remembered instead of obeyed.

    A signal that the process was started to ignore stays ignored: SIGHUP under `nohup`.

    Python runs signal handlers only between its own instructions, so during a long compiled chunk
    they would wait for its end. A thread that reads the interpreter's wake-up socket hears them at
    once: it confirms the first, and lets a second Ctrl-C end the process on the spot.

    Args:
      on_first: is called with the first signal, in the listening thread. It must not wait for a
        lock or for the terminal, or the second Ctrl-C would not be heard; `Screen.print` does not.

    Attributes:
      signal_number: the first signal, or None.
    """

    def __init__(self, on_first: Callable[[int], None]):
        self.signal_number: int | None = None
        self._on_first = on_first

    def __enter__(self) -> Self:
        # Only the main thread may set handlers; elsewhere the signals are the caller's business.
        self._active = threading.current_thread() is threading.main_thread()
        if self._active:
            self._reader, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._old_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            heard = [s for s in _SIGNALS if signal.getsignal(s) != signal.SIG_IGN]
            self._old_handlers = {s: signal.signal(s, lambda *_: None) for s in heard}
            self._thread = threading.Thread(target=self._listen, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._active:
            return
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._writer.close()
        self._thread.join()
        self._reader.close()

    def _listen(self) -> None:
        while received := self._reader.recv(16):
            for number in received:
                if number in _SIGNALS:
                    self._handle(number)

    def _handle(self, number: int) -> None:
        if self.signal_number is None:
            self.signal_number = number
            self._on_first(number)
        elif number == signal.SIGINT:
            if sys.stderr.isatty():
                # A terminal that takes nothing must not keep the process from ending.
                showing = threading.Thread(target=_show_cursor, daemon=True)
                showing.start()
                showing.join(timeout=0.5)
            os._exit(128 + number)


def _show_cursor() -> None:
    """A live display hides the cursor; written without Python's locks of stderr."""
    with contextlib.suppress(OSError):
        os.write(2, b"\x1b[?25h\n")
