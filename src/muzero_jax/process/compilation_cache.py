"""Keeps compiled programs between processes, and repairs the folder that they are kept in."""

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

# JAX's warnings about an entry that it cannot read or write; it then compiles the program.
_UNREADABLE = "Error reading persistent compilation cache entry for "
_UNWRITABLE = "Error writing persistent compilation cache entry for "
_ZSTANDARD = b"\x28\xb5\x2f\xfd"


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the folder of `cache_folder`; call it before anything is compiled.

    A folder that JAX already has, for example from `JAX_COMPILATION_CACHE_DIR`, is kept.
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
    """Shows warnings, and turns JAX's warnings about the cache into one notice and a repair.

    JAX never overwrites an entry. So every process would warn of an entry that a kill or a full
    disk has damaged, and would compile its program again.

    Args:
      folder: folder of the compiled programs.
      show: function that shows all other warnings, with the arguments of `warnings.showwarning`.
    """

    def __init__(self, folder: Path, show: Callable[..., None]):
        self._folder, self._show = folder, show
        self._lock, self._was_told = threading.Lock(), False

    def __call__(self, message: Warning | str, *args: Any, **kwargs: Any) -> None:
        """Shows or repairs; the arguments are those of `warnings.showwarning`."""
        if not str(message).startswith((_UNREADABLE, _UNWRITABLE)):
            return self._show(message, *args, **kwargs)
        with self._lock:
            told = self._repair(str(message))
            if told and not self._was_told:
                print(f"notice: {told}", file=sys.stderr)
                self._was_told = True

    def _repair(self, message: str) -> str:
        """Removes damaged entries; returns what to tell of it, empty if there is nothing."""
        damaged = [path for path in self._folder.glob("*-cache") if _is_damaged(path)]
        if message.startswith(_UNREADABLE) and not damaged:
            # The entry is whole but cannot be loaded; it is one of the entries of this name.
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
    """Whether an entry is no whole compressed stream; Zstandard streams are taken for whole."""
    try:
        content = path.read_bytes()
        if not content.startswith(_ZSTANDARD):
            zlib.decompress(content)
    except (OSError, zlib.error):
        return True
    return False
