"""A child process in a terminal of its own, which the test watches, or leaves unread."""

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# The terminal's keys signal those whose controlling terminal it is. A new process takes it, since
# forking is not for a process in which JAX has threads.
_LAUNCHER = """
import os, sys
os.login_tty(0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Terminal:
    """A process in a pseudo-terminal.

    Attributes:
      process: the child.
      output: what was read of the terminal so far.
    """

    def __init__(self, process: subprocess.Popen[bytes], master: int):
        self.process, self.output = process, ""
        self._master = master

    def read_until(self, wanted: str, seconds: float) -> bool:
        """Reads until the output holds a text; false where the time or the process is over."""
        deadline = time.monotonic() + seconds
        while wanted not in self.output or not wanted:
            ready, _, _ = select.select([self._master], [], [], 0.05)
            if ready:
                try:
                    self.output += os.read(self._master, 65536).decode(errors="replace")
                except OSError:
                    return bool(wanted) and wanted in self.output  # The child has closed it.
            elif self.process.poll() is not None or time.monotonic() > deadline:
                return False
        return True

    def write(self, keys: bytes) -> None:
        """Types keys; b"\\x03" is Ctrl-C."""
        os.write(self._master, keys)

    def end(self, seconds: float) -> int | None:
        """Reads on until the process ends; its exit code, or None where it does not."""
        self.read_until("", seconds)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout=5)
        return None


@contextlib.contextmanager
def in_terminal(*command: str, cwd: Path, **env: str) -> Iterator[Terminal]:
    """Starts a command of this Python in a terminal of its own; kills it in the end.

    Args:
      command: arguments of the interpreter.
      cwd: where it runs.
      env: added to the environment.
    """
    master, slave = pty.openpty()
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCHER, *command],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "TERM": "xterm", **env},
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)
