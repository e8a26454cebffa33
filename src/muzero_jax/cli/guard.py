"""Runs a whole program: flags that all programs take, and errors as sentences."""

import errno
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from muzero_jax.core.errors import ConfigError, InterruptedRunError, LostProcessError, RunError
from muzero_jax.core.terminal import run_program
from muzero_jax.core.trust import trust_everything
from muzero_jax.core.user_code import describe_error

TRUST, TRACEBACK = "--trust", "--traceback"
FLAGS_HELP = """\
Every command takes --trust, which lets it run the code that a run folder, a sweep folder or a YAML
file names (MUZERO_TRUST=1 does so for all commands), and --traceback, which shows where an error
came from.
"""
_HELP = ("-h", "--help")
# Errors of a disk that is full, over its quota, read-only, or broken.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def run_guarded(
    work: Callable[[list[str]], None], args: Sequence[str], needs_reader: bool = False
) -> int:
    """Runs a whole program; an error that its user can cause becomes one sentence on stderr.

    Args:
      work: program, which is called with its own arguments.
      args: all arguments, from which the flags that every program takes are removed.
      needs_reader: whether the program ends when nobody reads its output any more.

    Returns:
      The exit code: 0, 2 for a mistake of the user, or the code that a `RunError` carries.
    """
    own = [arg for arg in args if arg not in (TRUST, TRACEBACK)]
    if TRUST in args:
        trust_everything()

    def guarded() -> int:
        try:
            _require_supported_system()
            work(own)
        except SystemExit as ended:
            if not ended.code and asks_for_help(own):
                print(FLAGS_HELP, end="")
            raise
        except KeyboardInterrupt:
            return 130
        except Exception as error:
            if TRACEBACK in args:
                traceback.print_exc()
            return _tell(error)
        return 0

    return run_program(guarded, needs_reader=needs_reader)


def asks_for_help(args: Sequence[str]) -> bool:
    """Whether arguments ask for the help of a command."""
    return bool({*_HELP} & {*args})


def _tell(error: Exception) -> int:
    """Prints an error that a user can cause, and returns its exit code; raises any other error."""
    if isinstance(error, ConfigError | RunError):
        begin = "" if isinstance(error, InterruptedRunError) else "error: "
        sentence, exit_code = f"{begin}{error}", error.exit_code
    elif (told := _sentence_of_the_system(error)) is not None:
        sentence, exit_code = told
    else:
        raise error
    print(sentence, file=sys.stderr)
    if isinstance(error, LostProcessError):
        sys.stdout.flush()
        os._exit(exit_code)  # A normal exit would wait for the process that is gone.
    return exit_code


def _require_supported_system() -> None:
    """Refuses Windows, where files cannot be locked as the program needs it."""
    if importlib.util.find_spec("fcntl") is None:
        told = "on Windows, use it in the Windows Subsystem for Linux."
        raise ConfigError(f"muzero_jax runs on Linux and macOS, and this system is neither; {told}")


def _sentence_of_the_system(error: Exception) -> tuple[str, int] | None:
    """A sentence about an error of the machine, and the exit code; None for any other error."""
    first_line = next(iter(str(error).splitlines()), "")
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in first_line:
        return f"error: there is not enough memory for this: {first_line or 'no more is known'}", 1
    if type(error).__name__ == "JaxRuntimeError":  # JAX may not be loaded.
        return f"error: a compiled program failed: {describe_error(error)}", 1
    if not isinstance(error, OSError) or error.strerror is None:
        return None
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return "error: the working folder is gone; go to one that is there.", 2
    if error.errno in _DISK_ERRORS:
        where = f"{error.filename} " if error.filename else "a file "
        return f"error: {where}cannot be written: {error.strerror}.", 1
    return (f"error: {error.filename}: {error.strerror}.", 2) if error.filename else None
