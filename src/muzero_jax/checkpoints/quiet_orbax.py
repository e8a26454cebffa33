"""Keeps from the terminal what orbax and tensorstore print about errors that they also raise."""

import contextlib
import functools
import logging
import sys
import threading
from collections.abc import Iterator

# Loggers and hooks belong to the whole process, and several threads may restore at once.
_QUIET_LOCK = threading.Lock()


@functools.cache
def leave_reports_to_save() -> None:
    """From now on, the caller of `save` alone reports an error of saving.

    orbax's threads log pages about the error that they raise, and tensorstore's threads print that
    the event loop is closed, for each array that was still being written.
    """
    logging.getLogger("absl").addFilter(lambda log: "_SignalingThread" not in log.getMessage())
    # A thread that restores has set a silent hook, and will put back the hook that it found.
    with _QUIET_LOCK:
        report = sys.unraisablehook

        def report_others(unraisable: "sys.UnraisableHookArgs") -> None:
            if str(unraisable.exc_value) != "Event loop is closed":
                report(unraisable)

        sys.unraisablehook = report_others


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences orbax while it restores; its errors are told in one sentence by the caller."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    with _QUIET_LOCK:
        levels, hook = [logger.level for logger in loggers], sys.unraisablehook
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        sys.unraisablehook = lambda _: None
        try:
            yield
        finally:
            sys.unraisablehook = hook
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
