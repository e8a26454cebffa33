"""How compiled programs are timed: compiling apart from running, and only finished work."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp


def timed_compile(
    function: Callable[..., Any], *args: Any, donate: bool = False
) -> tuple[Callable[..., Any], float]:
    """Traces and compiles `function` for `args`; returns the program, and the seconds it took.

    Args:
      function: pure.
      args: arguments, or their shapes.
      donate: whether the first argument's memory may be reused for the result.
    """
    jitted = jax.jit(function, donate_argnums=0 if donate else None)
    start = time.perf_counter()
    compiled = jitted.lower(*args).compile()
    return compiled, time.perf_counter() - start


def timed_in_turns(
    programs: Mapping[str, tuple[Callable[..., Any], tuple[Any, ...]]], num_repeats: int
) -> dict[str, list[float]]:
    """Seconds of `num_repeats` calls of each program, after one of each to warm up.

    All are called before any is called again, so that a drifting machine does not favour one. A
    call is given copies of the arguments, so that it may reuse their memory.

    Args:
      programs: compiled programs with their arguments, by name.
      num_repeats: calls that count.
    """
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(num_repeats + 1):
        for name, (program, args) in programs.items():
            copies = jax.tree.map(jnp.copy, args)
            times[name].append(timed_call(program, *copies)[1])
    return {name: seconds[1:] for name, seconds in times.items()}


def timed_call(function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """Calls a compiled `function`; returns its result when that is there, and the seconds."""
    jax.block_until_ready(args)
    start = time.perf_counter()
    output = jax.block_until_ready(function(*args))
    return output, time.perf_counter() - start


def program_facts(program: Any) -> dict[str, Any]:
    """The memory of a compiled program, and the work of it by its own analysis."""
    memory, cost = program.memory_analysis(), program.cost_analysis() or {}
    parts = ("argument", "output", "temp")
    return {
        "peak_bytes": sum(getattr(memory, f"{part}_size_in_bytes", 0) for part in parts),
        "flops": float(cost.get("flops", 0.0)),
        "bytes_accessed": float(cost.get("bytes accessed", 0.0)),
    }
