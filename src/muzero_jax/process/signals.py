"""Stops a run at a good moment: the first signal asks for it, a second Ctrl-C ends the process."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Protocol, Self

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # SIGHUP means that the terminal was closed.
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class StopAsked(Protocol):
    """Says whether to stop at the next good moment."""

    @property
    def signal_number(self) -> int | None:
        """The signal that asks to stop, or None."""
        ...


class StopRequest:
    """Remembers Ctrl-C, SIGTERM and SIGHUP inside its block instead of obeying them.

    A signal that the process was started to ignore, such as SIGHUP under `nohup`, stays ignored.
    Python's own handlers would wait for the end of a long compiled chunk. A thread that reads the
    interpreter's wake-up socket hears signals at once.

    Args:
      on_first: function that the listening thread calls with the first signal. It must not wait for
        a lock or for the terminal, or the second Ctrl-C would not be heard.

    Attributes:
      signal_number: the first signal, or None.
    """

    def __init__(self, on_first: Callable[[int], None]):
        self.signal_number: int | None = None
        self._on_first = on_first

    def __enter__(self) -> Self:
        # Only the main thread may set handlers; in another thread signals are not handled here.
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

    def __exit__(self, *error: object) -> None:
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
                # A terminal that accepts no output must not keep the process from ending.
                showing = threading.Thread(target=_show_cursor, daemon=True)
                showing.start()
                showing.join(timeout=0.5)
            os._exit(128 + number)


def _show_cursor() -> None:
    """Shows the cursor, which a live display hides, without Python's locks of stderr."""
    with contextlib.suppress(OSError):
        os.write(2, b"\x1b[?25h\n")
