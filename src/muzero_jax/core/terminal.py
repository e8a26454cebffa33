"""Standard output and standard error: in any encoding, closed, or read by nobody.

A program that starts with `run_program` writes to streams of this file. What they cannot encode is
written in ASCII. A reader that is gone, such as `head` or a terminal that was closed, ends a
program that only shows something, and does not disturb a program that works.
"""

import codecs
import contextlib
import errno
import io
import os
import select
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

# What a shell reports of a program that a closed pipe ended: 128 + SIGPIPE.
UNREAD_EXIT_CODE = 141
_NOBODY_READS = (errno.EPIPE, errno.EIO)  # A pipe without a reader; a terminal that was closed.
LEAST_COLUMNS, _LEAST_LIVE_COLUMNS = 40, 20
_IN_ASCII = {
    **{"±": "+-", "µ": "u", "·": "-", "…": "..."},
    **{"→": ">", "←": "<", "↑": "^", "↓": "v", "↺": "o", "↙": "/", "↘": "\\"},
    **dict.fromkeys("─━╸╺═", "-"),
    **dict.fromkeys("│┃║", "|"),
    **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼┏┓┗┛┡┩╇┳┻╋", "+"),
}
_ERRORS = "muzero_ascii"
# Ways to treat what cannot be encoded that somebody chose with PYTHONIOENCODING stay as they are.
_REPLACED_ERRORS = ("strict", "surrogateescape", "backslashreplace")


class OutputLostError(Exception):
    """What a program shows cannot be written any more."""


def run_program(work: Callable[[], int], needs_reader: bool = False) -> int:
    """Calls a whole program, with streams that no encoding and no lost reader can break.

    Args:
      work: the program; returns its exit code.
      needs_reader: whether the program is over when nobody reads its output any more. Otherwise it
        goes on, and what it prints is lost.

    Returns:
      The exit code of `work`; 141 where nobody reads any more what the program is for, and 1 where
      its output cannot be written for another reason, such as a full disk.
    """
    with _lasting_streams(needs_reader) as output:
        try:
            exit_code = _flushed(work, output)
        except OutputLostError:
            exit_code = UNREAD_EXIT_CODE
        reason = output.failure
        if reason is None or reason.errno in _NOBODY_READS:
            return exit_code
        word = "error" if needs_reader else "notice"
        print(f"{word}: the output cannot be written: {reason.strerror}.", file=sys.stderr)
        return 1 if needs_reader else exit_code


def is_live() -> bool:
    """Whether a display that is redrawn again and again can be shown: in a terminal that can."""
    if not all(s is not None and s.isatty() for s in (sys.stdout, sys.stderr)):
        return False
    is_wide = shutil.get_terminal_size().columns >= _LEAST_LIVE_COLUMNS
    return is_wide and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


@contextlib.contextmanager
def wide_enough(least_columns: int = LEAST_COLUMNS) -> Iterator[None]:
    """While it is entered, text is laid out for some columns where the terminal has fewer.

    tyro does not come to an end where a column of its help has no room at all.

    Args:
      least_columns: how many columns there shall be.
    """
    if shutil.get_terminal_size().columns >= least_columns:
        yield
        return
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(least_columns)
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


class _Descriptor(io.FileIO):
    """A file descriptor that takes everything, whether it can be written or not.

    Attributes:
      failure: why something could not be written, or None.

    Args:
      descriptor: its number; it stays open.
      needs_reader: whether the first failure is raised. Only the main thread is told: in another
        thread nobody would hear of it.
    """

    def __init__(self, descriptor: int, needs_reader: bool):
        super().__init__(descriptor, "w", closefd=False)
        self.failure: OSError | None = None
        self._will_raise = needs_reader

    def write(self, data: Any) -> int:
        try:
            while (count := super().write(data)) is None:
                select.select([], [self], [])  # Another program made the descriptor non-blocking.
            return count
        except OSError as error:
            self.failure = self.failure or error
            if self._will_raise and threading.current_thread() is threading.main_thread():
                self._will_raise = False
                raise OutputLostError(str(error)) from error
            return memoryview(data).nbytes


class _Output:
    """The streams of a program, and what went wrong with its standard output."""

    def __init__(self, needs_reader: bool):
        self.stdout, self._written = _lasting(sys.stdout, 1, needs_reader)
        self.stderr, _ = _lasting(sys.stderr, 2, needs_reader=False)

    @property
    def failure(self) -> OSError | None:
        """Why a part of the standard output was not written, or None."""
        return None if self._written is None else self._written.failure


def _lasting(
    stream: TextIO | None, descriptor: int, needs_reader: bool
) -> tuple[TextIO, _Descriptor | None]:
    """A lasting stream, and its descriptor; the given stream where it is not one of Python's own.

    A notebook or a test catches what is printed with a stream of another kind.

    Args:
      stream: the stream, or None where it was closed when the program started.
      descriptor: its number where it was closed.
      needs_reader: whether the loss of its reader is raised.
    """
    if stream is None:
        stream = io.TextIOWrapper(io.FileIO(descriptor, "w", closefd=False), encoding="utf-8")
    if type(stream) is not io.TextIOWrapper:
        return stream, None
    try:
        stream.flush()
        raw = _Descriptor(stream.fileno(), needs_reader)
    except (OSError, ValueError):
        return stream, None
    lasting = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=_ERRORS if stream.errors in _REPLACED_ERRORS else stream.errors,
        line_buffering=stream.line_buffering or stream.write_through,
    )
    return lasting, raw


@contextlib.contextmanager
def _lasting_streams(needs_reader: bool) -> Iterator[_Output]:
    _open_closed_descriptors()
    codecs.register_error(_ERRORS, _in_ascii)
    before = sys.stdout, sys.stderr
    output = _Output(needs_reader)
    sys.stdout, sys.stderr = output.stdout, output.stderr
    try:
        yield output
    finally:
        with contextlib.suppress(OSError, ValueError):
            output.stderr.flush()
        sys.stdout, sys.stderr = before


def _flushed(work: Callable[[], int], output: _Output) -> int:
    """Calls `work`; what it printed is written when this returns, also where it raises an error."""
    try:
        return work()
    finally:
        output.stdout.flush()


def _open_closed_descriptors() -> None:
    """Opens the null device in place of standard streams that were closed.

    Otherwise the first files of the program would get their numbers, and would receive what
    libraries print.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # The lowest number that is free.
            os.set_inheritable(null, True)


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    """The error handler of the streams: what cannot be encoded is written in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    if any(map(_is_byte, text)) and not error.encoding.startswith(("utf-16", "utf-32")):
        return b"".join(map(_bytes_in_ascii, text)), error.end
    return "".join(map(_character_in_ascii, text)), error.end


def _is_byte(character: str) -> bool:
    """Whether it stands for a byte of a file's name that is no character."""
    return "\udc80" <= character <= "\udcff"


def _bytes_in_ascii(character: str) -> bytes:
    if _is_byte(character):
        return character.encode("ascii", "surrogateescape")
    return _character_in_ascii(character).encode("ascii")


def _character_in_ascii(character: str) -> str:
    return _IN_ASCII.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")
