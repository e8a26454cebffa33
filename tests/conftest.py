"""For every test: strict rank promotion, and programs compiled quickly and kept between runs."""

import os
from pathlib import Path

import jax
import pytest

_CACHE_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(_CACHE_HOME / "muzero_jax" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Compile without most optimisations, but for tests of what optimising could change.

    Compiling is most of the work of the suite, and takes a third less so.
    """
    as_users_do = any(item.get_closest_marker(name) for name in ("slow", "optimised"))
    jax.config.update("jax_disable_most_optimizations", not as_users_do)
