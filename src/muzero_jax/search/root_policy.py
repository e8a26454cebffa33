"""What the policies have in common: their result, masks at the root, and figures of the trees."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mctx

from muzero_jax.core.types import Array
from muzero_jax.search.nodes import take_each
from muzero_jax.search.one_kernel import for_each_row, put_row, take_row

SearchTree = Callable[..., mctx.Tree]
"""An engine, `mctx.search` or `engine.search`, whose `params`, `recurrent_fn` and `max_depth` are
bound."""


class RootPolicy(NamedTuple):
    """What a policy makes of a batch of searched roots.

    Attributes:
      action: `[B]` int32, the action to take.
      action_weights: `[B, A]` the improved policy, a target for the prior.
      tree: the searched trees.
    """

    action: Array
    action_weights: Array
    tree: mctx.Tree


class RootSummary(NamedTuple):
    """What a search found at its roots: the part of `mctx.Tree.summary` that is used here.

    mctx's summary computes the Q-values of all nodes on the way.

    Attributes:
      visits: `[B, A]` int32 visits of the actions.
      qvalues: `[B, A]` reward and discounted value; meaningless where an action was not tried.
      value: `[B]` mean of the values that were backed up to the root.
    """

    visits: Array
    qvalues: Array
    value: Array


def summarise_roots(tree: mctx.Tree) -> RootSummary:
    """Reads the roots of a batch of trees."""

    def at_root(x: Array) -> Array:
        return x[:, tree.ROOT_INDEX]

    discounted = at_root(tree.children_discounts) * at_root(tree.children_values)
    return RootSummary(
        visits=at_root(tree.children_visits),
        qvalues=at_root(tree.children_rewards) + discounted,
        value=at_root(tree.node_values),
    )


def without_invalid(logits: Array, invalid_actions: Array) -> Array:
    """Finite logits without mass on invalid actions, also where all actions are invalid."""
    logits = logits - jnp.max(logits, axis=-1, keepdims=True)
    return jnp.where(invalid_actions, jnp.finfo(logits.dtype).min, logits)


def depths_in_order(parents: Array) -> Array:
    """Depths of nodes, found node by node in one kernel, tree after tree.

    Args:
      parents: `[B, N + 1]` parent of each node, which is older than the node; -1 at the root.

    Returns:
      `[B, N + 1]` int32 edges from the root.
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
    """The result of `depths_in_order`, found for all nodes at once, for accelerators.

    After k rounds a node knows its ancestor 2^k edges up, and how many of those edges exist. So a
    chain of N nodes needs log2(N) rounds.
    """
    ancestor, depths = parents, (parents >= 0).astype(jnp.int32)
    for _ in range((parents.shape[1] - 1).bit_length()):
        at_ancestor = functools.partial(take_each, nodes=ancestor)
        depths, ancestor = (
            depths + at_ancestor(depths, default=0),
            at_ancestor(ancestor, default=-1),
        )
    return depths
