"""What orbax and tensorstore print of errors that they hand on as well, kept from the terminal."""

import contextlib
import functools
import logging
import sys
import threading
from collections.abc import Iterator

# Loggers and hooks belong to the whole process, in which several threads may restore.
_QUIET_LOCK = threading.Lock()


@functools.cache
def leave_reports_to_save() -> None:
    """From now on, leaves it to whoever saves to report an error of saving.

    orbax's threads log the error in pages, and hand it on. tensorstore's threads print that the
    event loop is closed, for each array that was still being written.
    """
    logging.getLogger("absl").addFilter(lambda log: "_SignalingThread" not in log.getMessage())
    # Not while a thread restores, whose hook is silent, and which puts back the one that it found.
    with _QUIET_LOCK:
        report = sys.unraisablehook

        def report_others(unraisable: "sys.UnraisableHookArgs") -> None:
            if str(unraisable.exc_value) != "Event loop is closed":
                report(unraisable)

        sys.unraisablehook = report_others


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps orbax from telling in pages, while it restores, what is said in one sentence here."""
    with _QUIET_LOCK:
        yield from _silence()


def _silence() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
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
