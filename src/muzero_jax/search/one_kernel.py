"""Runs a function of one row after another over a batch, as one kernel of XLA's CPU backend.

XLA runs a program as a sequence of kernels, one for each fused operation. A step of a loop over a
tree has dozens of kernels that compute a few numbers each, and starting them costs many times what
they do. A call that carries the attribute `xla_cpu_small_call` is compiled into a single kernel
instead, loops and all. XLA sets the attribute on loops that touch little memory; here it is set by
hand. Where the attribute means nothing the program is the same, only slower.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

from muzero_jax.core.types import Array, PyTree
from muzero_jax.search.row_call import RowCall

# Primitives for which the single kernel has no code.
_UNSUPPORTED = ("scatter", "dot_general", "conv_general", "sort", "custom_call", "callback", "fft")


def for_each_row(
    step: Callable[..., PyTree], state: PyTree, inputs: PyTree, num_rows: int, shared: PyTree = ()
) -> PyTree:
    """`state = step(row, state, inputs, *shared)` for each row in turn.

    Args:
      step: function of the `[]` int32 number of a row, the state, the inputs and the members of
        `shared`, which returns the next state. It may read and write what belongs to its own row
        only. Under `vmap` the rows of all members are numbered through. Values that the function
        closes over are shared by all rows; where they are traced, the rows are left to many
        kernels, which is right but slow.
      state: arrays whose leading axis is `num_rows` or a multiple, row after row.
      inputs: arrays in the same order, which are only read.
      num_rows: number of rows, static.
      shared: tuple of trees of arrays that every row reads whole; under `vmap` a row reads the
        arrays of its own member.

    Returns:
      The state after the last row.
    """
    traced = jax.make_jaxpr(step)(jnp.int32(0), state, inputs, *shared)
    if any(isinstance(const, jax.core.Tracer) for const in traced.consts):
        return jax.lax.fori_loop(0, num_rows, lambda row, s: step(row, s, inputs, *shared), state)
    run = functools.partial(_run_as_one_kernel, step, _has_kernel(traced.jaxpr))
    return RowCall(run, num_rows)(state, inputs, shared)


def _run_as_one_kernel(
    step: Callable[..., PyTree],
    has_kernel: bool,
    num_rows: int,
    state: PyTree,
    inputs: PyTree,
    shared: PyTree,
) -> PyTree:
    """The loop over the rows of a `RowCall`."""

    def loop(state: PyTree, inputs: PyTree, shared: PyTree, limit: Array) -> PyTree:
        inputs_of_rows, owner = inputs

        def body(row: Array, state: PyTree) -> PyTree:
            own = shared
            if owner is not None:
                member = take_row(owner, row)
                own = jax.tree.map(lambda x: take_row(x, member), shared)
            return step(row, state, inputs_of_rows, *own)

        return jax.lax.fori_loop(0, limit, body, state), inputs, shared

    # XLA aborts on a single kernel that does not use one of its parameters, so the inputs are
    # returned too. The compiler may not know the number of rows either: XLA drops the initial value
    # of an array that a loop with a known trip count overwrites completely.
    args = jax.lax.optimization_barrier((state, inputs, shared, jnp.int32(num_rows)))
    output = jax.jit(loop)(*args)
    if not has_kernel:
        return output[0]
    # An attribute of one of the results is an attribute of the call.
    leaves, structure = jax.tree.flatten(output)
    leaves[0] = set_xla_metadata(leaves[0], xla_cpu_small_call="true", inlineable="false")
    return jax.tree.unflatten(structure, leaves)[0]


def _has_kernel(jaxpr: Any) -> bool:
    """Whether all primitives, also inside of inner functions, can be part of one kernel."""
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


def put_row(x: Array, row: Array, value: Array, column: int = 0) -> Array:
    """Writes a row, or a part of it.

    Args:
      x: array `[rows, ...]`.
      row: `[]` number of a row that is known to exist.
      value: numbers of the row, or of a part of a row of rank 1.
      column: place in the row from which on a part is written.
    """
    value = jnp.asarray(value, x.dtype)
    value = value.reshape((1,) * (x.ndim - value.ndim) + value.shape)
    return jax.lax.dynamic_update_slice(x, value, _start(x, row, column))


def _start(x: Array, row: Array, column: int = 0) -> list[Array]:
    """The first index of a slice; unsigned, so that XLA bounds it from one side only."""
    return [jnp.uint32(i) for i in (row, column, *[0] * x.ndim)][: x.ndim]
