"""How compiled programs are timed: compiling apart from running, and only finished work."""

import time
from collections.abc import Callable
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


def timed_call(function: Compiled, *args: Any) -> tuple[Any, float]:
    """Calls a compiled `function`; returns its result when that is there, and the seconds."""
    jax.block_until_ready(args)
    start = time.perf_counter()
    output = jax.block_until_ready(function(*args))
    return output, time.perf_counter() - start
