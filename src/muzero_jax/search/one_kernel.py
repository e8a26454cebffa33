"""Runs a function of one row after another over a batch, as one kernel of XLA's CPU backend.

XLA runs a program as a sequence of kernels, one for each fused operation, and a step of a loop
over a tree has dozens of them, of a few numbers each: starting them costs many times what they do.
A call that carries the attribute `xla_cpu_small_call` is compiled into a single kernel instead,
loops and all; XLA sets it on loops that touch little memory, here it is set by hand. Where the
attribute means nothing the program is the same, only slower.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

from muzero_jax.core.types import Array, PyTree
from muzero_jax.search.row_call import RowCall

Step = Callable[[Array, PyTree, PyTree], PyTree]
SharingStep = Callable[[Array, PyTree, PyTree, PyTree], PyTree]

# Primitives for which the single kernel has no code.
_UNSUPPORTED = ("scatter", "dot_general", "conv_general", "sort", "custom_call", "callback", "fft")


def for_each_row(step: Step, state: PyTree, inputs: PyTree, num_rows: int) -> PyTree:
    """`state = step(row, state, inputs)` for each row in turn.

    Args:
      step: from the `[]` int32 number of a row, the state and the inputs to the next state. It may
        read and write what belongs to its row only, which under `vmap` is numbered through all
        members, one after another. Values it closes over are shared by all rows;
        where they are traced, the rows are left to many kernels, which is right but slow.
      state: arrays whose leading axis is `num_rows` or a multiple, row after row.
      inputs: the same, only read.
      num_rows: number of rows, static.

    Returns:
      The state after the last row.
    """

    def alone(row: Array, state: PyTree, inputs: PyTree, shared: None) -> PyTree:
        del shared
        return step(row, state, inputs)

    return for_each_row_sharing(alone, state, inputs, None, num_rows)


def for_each_row_sharing(
    step: SharingStep, state: PyTree, inputs: PyTree, shared: PyTree, num_rows: int
) -> PyTree:
    """`state = step(row, state, inputs, shared)` for each row in turn.

    Args:
      step: as in `for_each_row`, whose other arguments and result these are too.
      state: see there.
      inputs: see there.
      shared: arrays that all rows read whole; under `vmap`, those of the row's member.
      num_rows: see there.
    """
    traced = jax.make_jaxpr(step)(jnp.int32(0), state, inputs, shared)
    if any(isinstance(const, jax.core.Tracer) for const in traced.consts):
        return jax.lax.fori_loop(0, num_rows, lambda row, s: step(row, s, inputs, shared), state)
    run = functools.partial(_run_as_one_kernel, step, _has_kernel(traced.jaxpr))
    return RowCall(run, num_rows)(state, inputs, shared)


def _run_as_one_kernel(
    step: SharingStep,
    has_kernel: bool,
    num_rows: int,
    state: PyTree,
    inputs: PyTree,
    shared: PyTree,
) -> PyTree:
    """The loop over the rows of a `RowCall`."""

    def step_owned(row: Array, state: PyTree, inputs: PyTree, shared: PyTree) -> PyTree:
        inputs, owner = inputs
        if owner is not None:
            member = take_row(owner, row)
            shared = jax.tree.map(lambda x: take_row(x, member), shared)
        return step(row, state, inputs, shared)

    def loop(state: PyTree, inputs: PyTree, shared: PyTree, limit: Array) -> PyTree:
        def body(row: Array, state: PyTree) -> PyTree:
            return step_owned(row, state, inputs, shared)

        return jax.lax.fori_loop(0, limit, body, state), inputs, shared

    # XLA aborts on a single kernel that has a parameter and does not use it. So inputs are
    # returned too, and the compiler may not know how many rows there are: of a loop that
    # surely runs, it drops the first value of what the loop overwrites.
    args = jax.lax.optimization_barrier((state, inputs, shared, jnp.int32(num_rows)))
    output = jax.jit(loop)(*args)
    if not has_kernel:
        return output[0]
    # Tagging one of its results tags the call.
    leaves, structure = jax.tree.flatten(output)
    leaves[0] = set_xla_metadata(leaves[0], xla_cpu_small_call="true", inlineable="false")
    return jax.tree.unflatten(structure, leaves)[0]


def _has_kernel(jaxpr: Any) -> bool:
    """Whether all primitives, those of inner functions included, can be part of one kernel."""
    for equation in jaxpr.eqns:
        if any(name in equation.primitive.name for name in _UNSUPPORTED):
            return False
        inner = jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr)
        if not all(_has_kernel(getattr(p, "jaxpr", p)) for p in inner if _is_jaxpr(p)):
            return False
    return True


def _is_jaxpr(x: Any) -> bool:
    return hasattr(x, "eqns")


def take_row(x: Array, row: Array) -> Array:
    """`x[row]` for a row that is known to exist."""
    taken = jax.lax.dynamic_slice(x, _start(x, row), (1, *x.shape[1:]))
    return taken.reshape(x.shape[1:])


def put_row(x: Array, row: Array, value: Array) -> Array:
    """`x` with `value` at a row that is known to exist."""
    value = jnp.asarray(value, x.dtype).reshape((1, *x.shape[1:]))
    return jax.lax.dynamic_update_slice(x, value, _start(x, row))


def put_part(x: Array, row: Array, column: int, value: Array) -> Array:
    """`x [rows, columns]` with `value` from a column on, at a row that is known to exist."""
    return jax.lax.dynamic_update_slice(x, value[None], _start(x, row, column))


def _start(x: Array, row: Array, column: int = 0) -> list[Array]:
    """Unsigned, so that XLA bounds the index from one side only."""
    return [jnp.uint32(i) for i in (row, column, *[0] * x.ndim)][: x.ndim]
