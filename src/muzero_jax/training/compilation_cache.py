"""Compiled programs, kept between processes."""

import hashlib
import os
import platform
import sys
from pathlib import Path

import jax


def enable_compilation_cache() -> None:
    """Keeps compiled programs in a folder; call it before anything is compiled.

    `MUZERO_CACHE_DIR` names another folder, or none if it is empty; a folder that JAX was told of
    already, for example by `JAX_COMPILATION_CACHE_DIR`, is left as it is.
    """
    folder = os.environ.get("MUZERO_CACHE_DIR", _default_folder())
    if not folder or jax.config.values["jax_compilation_cache_dir"]:
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(
            f"notice: compiled programs are not kept: {folder}: {error.strerror}", file=sys.stderr
        )
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    # A run compiles some twenty small programs beside the large ones; they add up to seconds.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _default_folder() -> str:
    """In the user's cache, apart for every kind of processor.

    Programs for a CPU use its instructions; a home folder may be shared by unlike machines.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text(errors="replace").splitlines() if cpu_info.is_file() else []
    kind = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    digest = hashlib.sha256(f"{platform.machine()} {kind}".encode()).hexdigest()[:8]
    return str(home / "muzero_jax" / f"xla-{digest}")
