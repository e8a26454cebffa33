"""Compiled programs, kept between processes."""

import sys
from pathlib import Path

import jax

from muzero_jax.cache_folder import cache_folder


def enable_compilation_cache() -> None:
    """Keeps compiled programs in a folder; call it before anything is compiled.

    `MUZERO_CACHE_DIR` names another folder, or none if it is empty; a folder that JAX was told of
    already, for example by `JAX_COMPILATION_CACHE_DIR`, is left as it is.
    """
    folder = cache_folder()
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
