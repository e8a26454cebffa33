"""How compiled programs are timed: compiling apart from running, and only finished work."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

Compiled = Callable[..., Any]


def timed_compile(
    function: Callable[..., Any], *args: Any, donate: bool = False
) -> tuple[Compiled, float]:
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
    programs: Mapping[str, tuple[Compiled, tuple[Any, ...]]], num_repeats: int
) -> dict[str, list[float]]:
    """Seconds of `num_repeats` calls of each program, after one of each to warm up.

    All are called before any is called again, so that a drifting machine does not favour one.

    Args:
      programs: compiled programs with their arguments, by name.
      num_repeats: calls that count.
    """
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(num_repeats + 1):
        for name, (program, args) in programs.items():
            times[name].append(timed_call(program, *args)[1])
    return {name: seconds[1:] for name, seconds in times.items()}


def timed_call(function: Compiled, *args: Any) -> tuple[Any, float]:
    """Calls a compiled `function`; returns its result when that is there, and the seconds."""
    jax.block_until_ready(args)
    start = time.perf_counter()
    output = jax.block_until_ready(function(*args))
    return output, time.perf_counter() - start
