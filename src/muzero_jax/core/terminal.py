"""Standard output and standard error: in any encoding, closed, or read by nobody.

Characters that a stream cannot encode are written in ASCII. If the reader is gone, such as `head`
or a closed terminal, a program that only shows something ends, and a program that works goes on.
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

# The exit code that a shell reports for a program that a closed pipe ended: 128 + SIGPIPE.
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
# An error handler that the user chose with PYTHONIOENCODING, other than these, is kept.
_REPLACED_ERRORS = ("strict", "surrogateescape", "backslashreplace")


class OutputLostError(Exception):
    """The output of a program cannot be written any more."""


def run_program(work: Callable[[], int], needs_reader: bool = False) -> int:
    """Calls a whole program, with streams that no encoding and no lost reader can break.

    Returns:
      The exit code of `work`. A program that `needs_reader` ends with 141 if it has lost the
      reader, and with 1 if its output cannot be written for another reason, such as a full disk.
    """
    with _lasting_streams(needs_reader) as descriptor:
        try:
            exit_code = _flushed(work)
        except OutputLostError:
            exit_code = UNREAD_EXIT_CODE
        reason = None if descriptor is None else descriptor.failure
        if reason is None or reason.errno in _NOBODY_READS:
            return exit_code
        word = "error" if needs_reader else "notice"
        print(f"{word}: the output cannot be written: {reason.strerror}.", file=sys.stderr)
        return 1 if needs_reader else exit_code


def is_live() -> bool:
    """Whether the terminal can show a display that is redrawn again and again."""
    if not all(s is not None and s.isatty() for s in (sys.stdout, sys.stderr)):
        return False
    is_wide = shutil.get_terminal_size().columns >= _LEAST_LIVE_COLUMNS
    return is_wide and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


@contextlib.contextmanager
def wide_enough(least_columns: int = LEAST_COLUMNS) -> Iterator[None]:
    """Lays text inside the block out for at least so many columns, or tyro may run for ever."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(max(shutil.get_terminal_size().columns, least_columns))
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


class _Descriptor(io.FileIO):
    """A file descriptor that accepts all output, whether it can be written or not.

    With `needs_reader` the first failure is raised, in the main thread only, because an error in
    another thread would be lost. `failure` is the first error of writing; None if there was none.
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


def _lasting(
    stream: TextIO | None, descriptor: int, needs_reader: bool
) -> tuple[TextIO, _Descriptor | None]:
    """A stream that lasts, with its descriptor; a stream that a notebook catches stays as it is.

    Args:
      stream: the stream; None if it was closed when the program started.
      descriptor: number of the stream's descriptor, for a stream that was closed.
      needs_reader: whether the loss of the reader is raised.
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
def _lasting_streams(needs_reader: bool) -> Iterator[_Descriptor | None]:
    """Makes the standard streams last inside the block; gives the new descriptor of stdout."""
    _open_closed_descriptors()
    codecs.register_error(_ERRORS, _in_ascii)
    before = sys.stdout, sys.stderr
    sys.stdout, descriptor = _lasting(sys.stdout, 1, needs_reader)
    sys.stderr, _ = _lasting(sys.stderr, 2, needs_reader=False)
    stderr = sys.stderr
    try:
        yield descriptor
    finally:
        with contextlib.suppress(OSError, ValueError):
            stderr.flush()
        sys.stdout, sys.stderr = before


def _flushed(work: Callable[[], int]) -> int:
    with contextlib.ExitStack() as stack:
        stack.callback(sys.stdout.flush)
        return work()


def _open_closed_descriptors() -> None:
    """Opens the null device for closed streams, or the program's files would get their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # The lowest number that is free.
            os.set_inheritable(null, True)


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    """The streams' error handler, which writes in ASCII a character that cannot be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, end = error.object[error.start], error.start + 1
    # This stands for an undecodable byte of a file's name.
    is_byte = "\udc80" <= character <= "\udcff"
    if is_byte and not error.encoding.startswith(("utf-16", "utf-32")):
        return character.encode("ascii", "surrogateescape"), end
    escaped = character.encode("ascii", "backslashreplace").decode("ascii")
    return _IN_ASCII.get(character, escaped), end
