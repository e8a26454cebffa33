"""A batched search whose cost is proportional to the nodes that its simulations pass through.

A drop-in for `mctx.search`: the same arguments, and the same `mctx.Tree`. docs/search.md shows the
arrays and says what was measured. In short: the trees are kept as rows, one a node (nodes.py); a
simulation is the network and one kernel (one_kernel.py) that, root by root, adds the new node,
backs its value up, lets each node on the path choose again (rules.py), and follows the choices down
to the next leaf (walk.py). A model that answers for single nodes is part of the kernel; then all
simulations of a root are done before the next root's (row_model.py).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mctx
from flax import struct

from muzero_jax.search.nodes import (
    NewNode,
    Nodes,
    Roots,
    as_rows,
    first_nodes,
    take_each,
    to_tree,
    with_room,
)
from muzero_jax.search.one_kernel import for_each_row
from muzero_jax.search.row_model import NodeModel, bind_parameters, grow_trees
from muzero_jax.search.rules import as_rule
from muzero_jax.search.walk import Walk
from muzero_jax.search.walk_state import Context, Leaf
from muzero_jax.types import Array, Params, PRNGKey, PyTree

RecurrentFn = Callable[[Params, PRNGKey, Array, PyTree], tuple[mctx.RecurrentFnOutput, PyTree]]
LoopFn = Callable[[int, int, Callable[[Any, Any], Any], Any], Any]


def search(
    params: Params,
    rng_key: PRNGKey,
    *,
    root: mctx.RootFnOutput,
    recurrent_fn: RecurrentFn,
    root_action_selection_fn: Callable[..., Array],
    interior_action_selection_fn: Callable[..., Array],
    num_simulations: int,
    max_depth: Array | int | None = None,
    invalid_actions: Array | None = None,
    extra_data: PyTree = None,
    loop_fn: LoopFn = jax.lax.fori_loop,
) -> mctx.Tree:
    """Searches a batch of roots; see `mctx.search`, whose arguments and result these are.

    Rules of `search/rules.py` are asked only where a node changed. Any other function is called, as
    mctx calls it, at every node on the way down; it is given a tree of that one node, so that it
    may read the node it is asked about (as all of mctx's do) and no other.

    Args:
      params: handed to `recurrent_fn`.
      rng_key: consumed.
      root: `(prior_logits [B, A], value [B], embedding [B, ...])`.
      recurrent_fn: `(params, rng_key, action [B], embedding)` to `(RecurrentFnOutput, embedding)`;
        a `NodeModel` is asked inside of the kernel where the rules need no chance.
      root_action_selection_fn: `(rng_key, tree, node_index)` to an action, for one root.
      interior_action_selection_fn: `(rng_key, tree, node_index, depth)` to an action, below it.
      num_simulations: N.
      max_depth: longest path in edges; a leaf there is evaluated again; None for no limit.
      invalid_actions: `[B, A]`, nonzero where the root's action may not be taken.
      extra_data: `[B, ...]`, shown to the rules at the root.
      loop_fn: runs the simulations, as `jax.lax.fori_loop`.

    Returns:
      The tree of `N + 1` nodes a root, in the order of their expansion.
    """
    batch_size, num_actions = root.prior_logits.shape
    if invalid_actions is None:
        invalid_actions = jnp.zeros_like(root.prior_logits)
    walk = Walk(
        root_rule=as_rule(root_action_selection_fn),
        interior_rule=as_rule(interior_action_selection_fn),
        num_nodes=num_simulations + 1,
        num_actions=num_actions,
        max_depth=num_simulations if max_depth is None else max_depth,
    )
    roots = Roots(invalid_actions, extra_data)
    is_plain = walk.needs_only_nodes and loop_fn is jax.lax.fori_loop and num_simulations > 0
    if is_plain and isinstance(recurrent_fn, NodeModel):
        row_model = bind_parameters(recurrent_fn, params, rng_key, root.embedding)
        nodes, embeddings = grow_trees(walk, row_model, root, roots)
    else:
        model = functools.partial(recurrent_fn, params)
        simulations = _Simulations(walk, model, roots, batch_size, leaves_are_new=max_depth is None)
        state = loop_fn(0, num_simulations, simulations.simulate, simulations.first(rng_key, root))
        nodes, embeddings = state.nodes, state.embeddings
    return to_tree(root, nodes, embeddings, roots)


class _State(struct.PyTreeNode):
    """Between two simulations; `embeddings` are `[B, N + 1, ...]`, `leaf` the next to expand."""

    rng_key: PRNGKey
    nodes: Nodes
    embeddings: PyTree
    leaf: Leaf


@dataclasses.dataclass(frozen=True)
class _Simulations:
    """The simulations of a batch of roots.

    Attributes:
      walk: the way through one tree.
      model: `recurrent_fn` with its parameters.
      roots: what only the rule at a root may read.
      batch_size: B.
      leaves_are_new: no depth limit leads to the same leaf twice.
    """

    walk: Walk
    model: Callable[[PRNGKey, Array, PyTree], tuple[mctx.RecurrentFnOutput, PyTree]]
    roots: Roots
    batch_size: int
    leaves_are_new: bool

    def first(self, rng_key: PRNGKey, root: mctx.RootFnOutput) -> _State:
        """Before the first simulation."""
        num_nodes = self.walk.num_nodes
        nodes = first_nodes(root, num_nodes, with_bounds=self.walk.needs_bounds)
        embeddings = jax.tree.map(lambda x: with_room(x, num_nodes), root.embedding)
        leaf = Leaf(jnp.zeros((self.batch_size, 3), jnp.int32))
        inputs = nodes, self._context(rng_key, embeddings)
        leaf = for_each_row(self.walk.find_first_leaf, leaf, inputs, self.batch_size)
        return _State(rng_key, nodes, embeddings, leaf)

    def simulate(self, simulation: Array, state: _State) -> _State:
        """Expands the leaves, backs their values up, and finds the next."""
        rng_key, _, expand_key = jax.random.split(state.rng_key, 3)
        embedding = jax.tree.map(lambda x: take_each(x, state.leaf.parent), state.embeddings)
        step, embedding = self.model(expand_key, state.leaf.action, embedding)
        new = self.walk.new_node(step, state.leaf, simulation + 1)
        embeddings = self._store(state.embeddings, embedding, new, simulation + 1)
        # The context of the last simulation finds a leaf that nobody expands.
        inputs = new, self._context(rng_key, embeddings)
        nodes, leaf = for_each_row(
            self.walk.backup_and_select, (state.nodes, state.leaf), inputs, self.batch_size
        )
        return _State(rng_key, nodes, embeddings, leaf)

    def _context(self, rng_key: PRNGKey, embeddings: PyTree) -> Context:
        """What choosing may read; the keys are those that mctx's next simulation would use."""
        _, simulate_key, _ = jax.random.split(rng_key, 3)
        keys = jax.random.split(simulate_key, self.batch_size)
        return Context(
            roots=self.roots,
            embeddings=jax.tree.map(as_rows, embeddings) if self.walk.shows_embeddings else None,
            keys=keys if self.walk.needs_keys else None,
        )

    def _store(self, embeddings: PyTree, embedding: PyTree, new: NewNode, number: Array) -> PyTree:
        """The embeddings with those of the new nodes."""
        if self.leaves_are_new:  # Then all have the number of the simulation.
            store = functools.partial(jax.lax.dynamic_update_index_in_dim, index=number, axis=1)
            return jax.tree.map(store, embeddings, embedding)
        rows, stored = jax.tree.map(as_rows, embeddings), (new.links[:, 0], embedding)
        rows = for_each_row(self.walk.store_embedding, rows, stored, self.batch_size)
        return jax.tree.map(lambda x, like: x.reshape(like.shape), rows, embeddings)
