"""A profile of one search that TensorBoard and XProf open."""

import functools
from pathlib import Path

import jax

from muzero_jax.config import SearchConfig
from muzero_jax.profiling.search_cost import SearchCell, Workload, cell_settings, search_alone
from muzero_jax.profiling.timing import timed_call, timed_compile


def trace_search(cell: SearchCell, workload: Workload, config: SearchConfig, out: Path) -> None:
    """Runs one search after a warm-up, with JAX's profiler on.

    Args:
      cell: the search.
      workload: its network and roots.
      config: its other settings.
      out: folder of the profile.
    """
    args = workload.params, jax.random.key(0), workload.root, workload.legal_action_mask
    settings = cell_settings(config, cell, "linear")
    program, _ = timed_compile(functools.partial(search_alone, settings, workload), *args)
    timed_call(program, *args)
    with jax.profiler.trace(str(out)):
        timed_call(program, *args)
