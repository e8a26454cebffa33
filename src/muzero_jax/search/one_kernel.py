"""Runs a function of one row after another over a batch, as one kernel of XLA's CPU backend.

XLA runs a program as a sequence of kernels, one for each fused operation, and a step of a loop
over a tree has dozens of them, of a few numbers each: starting them costs many times what they do.
A call that carries the attribute `xla_cpu_small_call` is compiled into a single kernel instead,
loops and all; XLA sets it on loops that touch little memory, here it is set by hand. Where the
attribute means nothing the program is the same, only slower.

Loops over rows do not survive `jax.vmap`, which would run all members' loops in lockstep and select
between whole states at every step. Rows are independent, so that members of a `vmap` become more
rows instead.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

from muzero_jax.search.spread_rows import spread_rows
from muzero_jax.types import Array, PyTree

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
    loop = _Loop(step, num_rows, as_one_kernel=_has_kernel(traced.jaxpr))
    owner = jnp.zeros(num_rows, jnp.int32) if jax.tree.leaves(shared) else None
    return loop.run(state, (inputs, owner), jax.tree.map(lambda x: x[None], shared))


@dataclasses.dataclass(frozen=True)
class _Loop:
    """The loop over the rows of one member of a `vmap`, or of several, one after another.

    Among the inputs are the `owner` of each row, the number of its member along the leading axis of
    `shared`; None where nothing is shared.
    """

    step: SharingStep
    num_rows: int
    as_one_kernel: bool

    def run(self, state: PyTree, inputs: PyTree, shared: PyTree) -> PyTree:
        """The state after the last row."""
        run = jax.custom_batching.custom_vmap(
            lambda *args: spread_rows(self._run_here, self.num_rows, *args)
        )
        run.def_vmap(self._members_become_rows)
        return run(state, inputs, shared)

    def _run_here(self, num_rows: int, state: PyTree, inputs: PyTree, shared: PyTree) -> PyTree:
        """The same on one device, which has so many of the rows."""

        def step(row: Array, state: PyTree, inputs: PyTree, shared: PyTree) -> PyTree:
            inputs, owner = inputs
            if owner is not None:
                member = take_row(owner, row)
                shared = jax.tree.map(lambda x: take_row(x, member), shared)
            return self.step(row, state, inputs, shared)

        def loop(state: PyTree, inputs: PyTree, shared: PyTree, limit: Array) -> PyTree:
            state = jax.lax.fori_loop(0, limit, lambda row, s: step(row, s, inputs, shared), state)
            return state, inputs, shared

        # XLA aborts on a single kernel that has a parameter and does not use it. So inputs are
        # returned too, and the compiler may not know how many rows there are: of a loop that
        # surely runs, it drops the first value of what the loop overwrites.
        args = jax.lax.optimization_barrier((state, inputs, shared, jnp.int32(num_rows)))
        output = jax.jit(loop)(*args)
        if not self.as_one_kernel:
            return output[0]
        # Tagging one of its results tags the call.
        leaves, structure = jax.tree.flatten(output)
        leaves[0] = set_xla_metadata(leaves[0], xla_cpu_small_call="true", inlineable="false")
        return jax.tree.unflatten(structure, leaves)[0]

    def _members_become_rows(
        self, num_members: int, is_batched: Sequence[PyTree], *args: PyTree
    ) -> tuple[PyTree, PyTree]:
        """The rule of `vmap`: members' rows one after another, by the same loop."""

        def flat(x: Array, batched: bool) -> Array:
            x = x if batched else jnp.broadcast_to(x, (num_members, *x.shape))
            return x.reshape((-1, *x.shape[2:]))

        state, (inputs, owner) = (
            jax.tree.map(flat, tree, batched)
            for tree, batched in zip(args[:2], is_batched[:2], strict=True)
        )
        shared, is_own = args[2], is_batched[2]
        if any(jax.tree.leaves(is_own)):
            shared = jax.tree.map(flat, shared, is_own)
            num_shared = len(jax.tree.leaves(shared)[0]) // num_members
            owner += jnp.repeat(jnp.arange(num_members) * num_shared, self.num_rows)
        loop = dataclasses.replace(self, num_rows=num_members * self.num_rows)
        output = loop.run(state, (inputs, owner), shared)
        output = jax.tree.map(lambda x: x.reshape((num_members, -1, *x.shape[1:])), output)
        return output, jax.tree.map(lambda _: True, output)


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
