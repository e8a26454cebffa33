"""Keeps compiled programs between processes, and repairs the folder that they are kept in."""

import glob
import re
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from muzero_jax.core.cache_folder import cache_folder

# JAX's warning about an entry that it cannot read or write; it then compiles the program.
_WARNING = re.compile(
    r"Error (reading|writing) persistent compilation cache entry for '(.*?)': (.*)", re.DOTALL
)


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
        found = _WARNING.fullmatch(str(message))
        if found is None:
            return self._show(message, *args, **kwargs)
        work, program, reason = found.groups()
        told = f"compiled programs cannot be written to {self._folder}: {reason}"
        with self._lock:
            if work == "reading":
                # The name is that of a program, of which there may be several, or of one entry.
                for path in self._folder.glob(f"{glob.escape(program)}-*cache"):
                    path.unlink(missing_ok=True)
                told = f"removed {program} from {self._folder}, where it was damaged."
            if not self._was_told:
                print(f"notice: {told}", file=sys.stderr)
                self._was_told = True
