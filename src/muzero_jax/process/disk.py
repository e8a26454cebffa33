"""Turns what the system says when a run folder cannot be written into an error of one sentence."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from muzero_jax.core.errors import DiskError


@contextlib.contextmanager
def writing(run_dir: Path) -> Iterator[None]:
    """While it is entered, an error of the file system becomes a `DiskError`.

    Args:
      run_dir: folder that is written to.

    Raises:
      DiskError: the disk is full or read-only, or something else keeps it from being written.
    """
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise  # Of a service on the network, not of the disk.
    except OSError as error:
        reason = error.strerror or str(error)
        raise DiskError(f"{run_dir} cannot be written: {reason}") from error
