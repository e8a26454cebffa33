"""A call on a batch of rows that do not depend on each other, under `jax.vmap` and on a mesh.

A search loops over the rows of its batch. Such loops do not survive `jax.vmap`, which would run the
loops of all members in lockstep and select between whole states at every step; and a foreign
function knows nothing of members. The rows are independent, so the members of a `vmap` become more
rows instead.

Nor do the loops survive XLA's partitioner, where `jax.jit` divides a batch over devices by itself:
it would follow the index of a row into the loops and gather whole arrays there. So it is told what
a row is, and each device runs its own rows.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import (
    ArrayMapping,
    CompoundFactor,
    SdyShardingRule,
    custom_partitioning,
)
from jax.sharding import NamedSharding, PartitionSpec

from muzero_jax.core.types import Array, PyTree

Run = Callable[[int, PyTree, PyTree, PyTree], PyTree]


@dataclasses.dataclass(frozen=True)
class RowCall:
    """Calls `run` once for the rows of all members of a `vmap`.

    Attributes:
      run: function of the number of rows, `state`, `(inputs, owner)` and `shared`, which returns
        the next state. `state` and `inputs` are arrays whose leading axis is the number of rows or
        a multiple, row after row. `owner` says which of the `shared` arrays belong to a row, as an
        index into their leading axis; it is None where nothing is shared.
      num_rows: number of rows, static.
    """

    run: Run
    num_rows: int

    def __call__(self, state: PyTree, inputs: PyTree, shared: PyTree = None) -> PyTree:
        """Runs the call.

        Args:
          state: arrays that the call changes.
          inputs: arrays that the call only reads.
          shared: arrays that belong to all rows.

        Returns:
          The next state.
        """
        owner = jnp.zeros(self.num_rows, jnp.int32) if jax.tree.leaves(shared) else None
        return self._run(state, (inputs, owner), jax.tree.map(lambda x: x[None], shared))

    def _run(self, state: PyTree, inputs: PyTree, shared: PyTree) -> PyTree:
        run = jax.custom_batching.custom_vmap(
            lambda *args: _spread_rows(self.run, self.num_rows, *args)
        )
        run.def_vmap(self._members_become_rows)
        return run(state, inputs, shared)

    def _members_become_rows(
        self, num_members: int, is_batched: Sequence[PyTree], *args: PyTree
    ) -> tuple[PyTree, PyTree]:
        """The rule of `vmap`: one call for the members' rows, one member after another."""

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
        call = dataclasses.replace(self, num_rows=num_members * self.num_rows)
        output = call._run(state, (inputs, owner), shared)
        output = jax.tree.map(lambda x: x.reshape((num_members, -1, *x.shape[1:])), output)
        return output, jax.tree.map(lambda _: True, output)


def _spread_rows(run: Run, num_rows: int, state: PyTree, inputs: PyTree, shared: PyTree) -> PyTree:
    """Calls `run` on each device of a mesh with the rows that the device holds.

    `num_rows` counts the rows of all devices together; every device has all of `shared`.
    """
    leaves, structure = jax.tree.flatten((state, inputs, shared))
    num_results, num_shared = len(jax.tree.leaves(state)), len(jax.tree.leaves(shared))
    # The partitioner does not know keys, only the numbers in them.
    impls = [jax.random.key_impl(x) if _is_key(x) else None for x in leaves]
    raw = [jax.random.key_data(x) if _is_key(x) else x for x in leaves]

    def rows(num_rows: int, *raw: Array) -> tuple[Array, ...]:
        args = [
            x if impl is None else jax.random.wrap_key_data(x, impl=impl)
            for x, impl in zip(raw, impls, strict=True)
        ]
        return tuple(jax.tree.leaves(run(num_rows, *jax.tree.unflatten(structure, args))))

    def partition(mesh: Any, arguments: Any, results: Any) -> Any:
        del results
        axes, num_local = _division(arguments[0].sharding, num_rows)
        division = NamedSharding(mesh, PartitionSpec(axes))
        local = functools.partial(rows, num_local)
        divisions = [division] * (len(raw) - num_shared)
        divisions += [NamedSharding(mesh, PartitionSpec())] * num_shared
        return mesh, local, (division,) * num_results, tuple(divisions)

    call: Any = custom_partitioning(functools.partial(rows, num_rows))
    call.def_partition(partition, sharding_rule=_rule(raw, num_results, num_shared, num_rows))
    return jax.tree.unflatten(jax.tree.structure(state), call(*raw))


def _division(sharding: NamedSharding, num_rows: int) -> tuple[Any, int]:
    """Mesh axes that the rows are divided over, and the number of rows of one device."""
    axes = sharding.spec[0] if len(sharding.spec) else None
    names = axes if isinstance(axes, tuple) else () if axes is None else (axes,)
    num_parts = math.prod(sharding.mesh.shape[name] for name in names)
    # Every device runs all rows where they cannot be divided evenly.
    return (None, num_rows) if num_rows % num_parts else (axes, num_rows // num_parts)


def _rule(leaves: list[Array], num_results: int, num_shared: int, num_rows: int) -> SdyShardingRule:
    """Only the rows may be divided; the last `num_shared` leaves have no rows."""
    mappings: list[Any] = []
    sizes: dict[str, Any] = {}
    whole: list[str] = []
    num_divided = len(leaves) - num_shared
    for i, leaf in enumerate(leaves):
        axes: list[Any] = [f"x{i}_{axis}" for axis in range(leaf.ndim)]
        kept = list(axes)
        if i < num_divided:
            axes[0], kept = "rows", kept[1:]
            if leaf.shape[0] != num_rows:
                axes[0], kept = CompoundFactor("rows", f"x{i}"), [f"x{i}", *kept]
                sizes[f"x{i}"] = leaf.shape[0] // num_rows
        whole += kept
        mappings.append(ArrayMapping(*axes))
    if all(isinstance(mapping[0], CompoundFactor) for mapping in mappings[:num_divided]):
        sizes["rows"] = num_rows
    results = tuple(mappings[:num_results])
    return SdyShardingRule(tuple(mappings), results, need_replication_factors=tuple(whole), **sizes)


def _is_key(x: Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, jax.dtypes.prng_key))
