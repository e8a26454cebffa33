"""Rows of a batch over the devices of a mesh, where `jax.jit` divides the batch by itself.

XLA's partitioner knows nothing of rows: left alone it would follow the index of a row into the
loops and gather whole arrays there. Rows are independent, so that each device runs its own.
"""

import functools
import math
from collections.abc import Callable
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


def spread_rows(
    run: Callable[[int, PyTree, PyTree, PyTree], PyTree],
    num_rows: int,
    state: PyTree,
    inputs: PyTree,
    shared: PyTree,
) -> PyTree:
    """`run(num_rows, state, inputs, shared)`, each device with as many rows as it holds.

    Args:
      run: to the next state; its rows do not know each other.
      num_rows: number of rows on all devices together.
      state: arrays whose leading axis is `num_rows` or a multiple, row after row.
      inputs: the same.
      shared: arrays that every device has whole.
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
    """Mesh axes that the rows are divided over, and the rows of one device."""
    axes = sharding.spec[0] if len(sharding.spec) else None
    names = axes if isinstance(axes, tuple) else () if axes is None else (axes,)
    num_parts = math.prod(sharding.mesh.shape[name] for name in names)
    # What cannot be divided evenly is done by every device.
    return (None, num_rows) if num_rows % num_parts else (axes, num_rows // num_parts)


def _rule(leaves: list[Array], num_results: int, num_shared: int, num_rows: int) -> SdyShardingRule:
    """Rows may be divided, nothing else; the last `num_shared` of the leaves have none."""
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
