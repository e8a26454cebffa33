"""Compiled programs, kept between processes."""

import glob
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from muzero_jax.core.cache_folder import cache_folder

# JAX warns so when an entry cannot be read or written, and then compiles the program.
_UNREADABLE = "Error reading persistent compilation cache entry for "
_UNWRITABLE = "Error writing persistent compilation cache entry for "
_ZSTANDARD = b"\x28\xb5\x2f\xfd"


def enable_compilation_cache() -> None:
    """Keeps compiled programs in a folder; call it before anything is compiled.

    `MUZERO_CACHE_DIR` names another folder, or none if it is empty; a folder that JAX was told of
    already, for example by `JAX_COMPILATION_CACHE_DIR`, is left as it is.
    """
    if jax.config.values["jax_compilation_cache_dir"]:
        return
    folder = cache_folder()
    if folder is None:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # A run compiles some twenty small programs beside the large ones; they add up to seconds.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    warnings.showwarning = _Repair(folder, warnings.showwarning)


class _Repair:
    """Shows warnings; those of the folder of compiled programs become one notice and a repair.

    JAX writes no entry anew that is there already. So a damaged one, such as a kill or a full disk
    leaves behind, would be complained of and compiled again by every process.

    Args:
      folder: of the compiled programs.
      show: shows all other warnings.
    """

    def __init__(self, folder: Path, show: Callable[..., None]):
        self._folder, self._show = folder, show
        self._lock, self._was_told = threading.Lock(), False

    def __call__(self, message: Warning | str, *args: Any, **kwargs: Any) -> None:
        """Called in place of `warnings.showwarning`, with its arguments."""
        if not str(message).startswith((_UNREADABLE, _UNWRITABLE)):
            return self._show(message, *args, **kwargs)
        with self._lock:
            told = self._repair(str(message))
            if told and not self._was_told:
                print(f"notice: {told}", file=sys.stderr)
                self._was_told = True

    def _repair(self, message: str) -> str:
        """Removes what is damaged; returns a sentence about it, if there is anything to tell."""
        damaged = [path for path in self._folder.glob("*-cache") if _is_damaged(path)]
        if message.startswith(_UNREADABLE) and not damaged:
            # Whole, but not a program that can be loaded: one of those of this name.
            name = message.removeprefix(_UNREADABLE).partition("'")[2].partition("'")[0]
            damaged = list(self._folder.glob(f"{glob.escape(name)}-*-cache")) if name else []
        for path in damaged:
            path.unlink(missing_ok=True)
        if message.startswith(_UNWRITABLE):
            reason = message.partition("': ")[2]
            return f"compiled programs cannot be written to {self._folder}: {reason}"
        removed = f"{len(damaged)} damaged compiled program{'s' if len(damaged) > 1 else ''}"
        return f"removed {removed} from {self._folder}." if damaged else ""


def _is_damaged(path: Path) -> bool:
    """Whether an entry is not a whole compressed stream; of one in Zstandard that is not known."""
    try:
        content = path.read_bytes()
        if not content.startswith(_ZSTANDARD):
            zlib.decompress(content)
    except (OSError, zlib.error):
        return True
    return False
