"""How deep the nodes of searched trees lie, from the parents of the nodes."""

import functools

import jax
import jax.numpy as jnp

from muzero_jax.core.types import Array
from muzero_jax.search.nodes import take_each_or
from muzero_jax.search.one_kernel import for_each_row, put_row, take_row


def depths_in_order(parents: Array) -> Array:
    """`[B, N + 1]` int32 edges from the root, from parents `[B, N + 1]`; -1 is that of a root.

    Node by node in one kernel, tree after tree: every node is younger than its parent.
    """
    batch_size, num_nodes = parents.shape

    def measure_tree(row: Array, depths: Array, parents: Array) -> Array:
        first = row * num_nodes

        def measure(number: Array, depths: Array) -> Array:
            parent = take_row(parents, first + number)
            depth = take_row(depths, first + jnp.maximum(parent, 0)) + 1
            return put_row(depths, first + number, jnp.where(parent < 0, 0, depth))

        return jax.lax.fori_loop(0, num_nodes, measure, depths)

    depths = jnp.zeros(parents.size, jnp.int32)
    depths = for_each_row(measure_tree, depths, parents.reshape(-1), batch_size)
    return depths.reshape(parents.shape)


def depths_by_doubling(parents: Array) -> Array:
    """The same of all nodes at once, for devices that have many cores and no single kernel.

    Doubles the pointers: after k rounds a node knows its ancestor 2^k edges up, and how many of
    those edges exist, so that a chain of N nodes needs log2(N) rounds.
    """
    ancestor, depths = parents, (parents >= 0).astype(jnp.int32)
    for _ in range((parents.shape[1] - 1).bit_length()):
        at_ancestor = functools.partial(take_each_or, nodes=ancestor)
        depths, ancestor = (
            depths + at_ancestor(depths, default=0),
            at_ancestor(ancestor, default=-1),
        )
    return depths
