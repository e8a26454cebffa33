"""A batched search whose cost is proportional to the nodes that its simulations pass through.

A drop-in for `mctx.search`: the same arguments, and the same `mctx.Tree`. docs/search.md shows the
arrays and says what was measured. In short: a simulation is the network and one call of a kernel
that, root by root, adds the new node, backs its value up, lets each node on the path choose again,
and follows the choices down to the next leaf. There are two kernels: in C++ for the rules of this
project (cpp_trees.py), and compiled by XLA for any (xla_trees.py). A model that answers for
single nodes is part of the latter; then all simulations of a root are done before the next root's
(row_model.py).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import mctx
from flax import struct

from muzero_jax.core.types import Array, Params, PRNGKey, PyTree
from muzero_jax.search.cpp_trees import CppTrees
from muzero_jax.search.nodes import Roots, as_rows, take_each, to_tree, with_room
from muzero_jax.search.one_kernel import for_each_row, put_row, take_row
from muzero_jax.search.row_model import NodeModel, bind_parameters, grow_trees
from muzero_jax.search.rules import as_rule
from muzero_jax.search.walk import Walk
from muzero_jax.search.walk_state import Leaf
from muzero_jax.search.xla_trees import XlaTrees

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
    cpp: bool = False,
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
      cpp: in the kernel in C++ where that has code for the search (cpp_trees.py).

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
        return to_tree(root, nodes, embeddings, roots)
    trees: Trees | None = CppTrees.of_search(walk, roots, root, rng_key) if cpp else None
    trees = trees or XlaTrees(walk, roots)
    model = functools.partial(recurrent_fn, params)
    simulations = _Simulations(
        trees, model, batch_size, walk.num_nodes, leaves_are_new=max_depth is None
    )
    state = simulations.first(rng_key, root)
    state = loop_fn(0, num_simulations, simulations.simulate, state)
    return trees.as_tree(root, state.nodes, state.embeddings)


class Trees(Protocol):
    """How trees are kept, and what a simulation does to them.

    `embeddings` are `[B, N + 1, ...]`, those of the new nodes included. What the trees keep of
    their nodes is their own affair.
    """

    def plant(
        self, root: mctx.RootFnOutput, rng_key: PRNGKey, embeddings: PyTree
    ) -> tuple[PyTree, Leaf]:
        """The roots, and the leaves of the first simulation.

        That is found with the second of three parts of the `rng_key`, as in mctx.
        """
        ...

    def grow(
        self,
        nodes: PyTree,
        leaf: Leaf,
        step: mctx.RecurrentFnOutput,
        numbers: Array,
        rng_key: PRNGKey,
        embeddings: PyTree,
    ) -> tuple[PyTree, Leaf]:
        """Adds the nodes of `step` as the nodes `numbers [B]`, and finds the next leaves.

        Each `rng_key` is the first of three parts of the one before.
        """
        ...

    def as_tree(self, root: mctx.RootFnOutput, nodes: PyTree, embeddings: PyTree) -> mctx.Tree:
        """As mctx has them."""
        ...


class _State(struct.PyTreeNode):
    """Between two simulations; `embeddings` are `[B, N + 1, ...]`, `leaf` the next to expand."""

    rng_key: PRNGKey
    nodes: PyTree
    embeddings: PyTree
    leaf: Leaf


@dataclasses.dataclass(frozen=True)
class _Simulations:
    """The simulations of a batch of roots.

    Attributes:
      trees: which grow.
      model: `recurrent_fn` with its parameters.
      batch_size: B.
      num_nodes: N + 1.
      leaves_are_new: no depth limit leads to the same leaf twice.
    """

    trees: Trees
    model: Callable[[PRNGKey, Array, PyTree], tuple[mctx.RecurrentFnOutput, PyTree]]
    batch_size: int
    num_nodes: int
    leaves_are_new: bool

    def first(self, rng_key: PRNGKey, root: mctx.RootFnOutput) -> _State:
        """Before the first simulation."""
        embeddings = jax.tree.map(lambda x: with_room(x, self.num_nodes), root.embedding)
        nodes, leaf = self.trees.plant(root, rng_key, embeddings)
        return _State(rng_key, nodes, embeddings, leaf)

    def simulate(self, simulation: Array, state: _State) -> _State:
        """Expands the leaves, backs their values up, and finds the next."""
        rng_key, _, expand_key = jax.random.split(state.rng_key, 3)
        leaf = state.leaf
        embedding = jax.tree.map(lambda x: take_each(x, leaf.parent), state.embeddings)
        step, embedding = self.model(expand_key, leaf.action, embedding)
        numbers = leaf.numbers(simulation + 1)
        embeddings = self._store(state.embeddings, embedding, numbers, simulation + 1)
        # The key of the last simulation finds a leaf that nobody expands.
        nodes, leaf = self.trees.grow(state.nodes, leaf, step, numbers, rng_key, embeddings)
        return _State(rng_key, nodes, embeddings, leaf)

    def _store(self, embeddings: PyTree, new: PyTree, numbers: Array, number: Array) -> PyTree:
        """The embeddings with those of the new nodes."""
        if self.leaves_are_new:  # Then all have the number of the simulation.
            store = functools.partial(jax.lax.dynamic_update_index_in_dim, index=number, axis=1)
            return jax.tree.map(store, embeddings, new)

        def store_row(row: Array, embeddings: PyTree, inputs: PyTree) -> PyTree:
            numbers, new = inputs
            index = row * self.num_nodes + take_row(numbers, row)
            return jax.tree.map(lambda x, y: put_row(x, index, take_row(y, row)), embeddings, new)

        rows = jax.tree.map(as_rows, embeddings)
        if jax.tree.leaves(rows):
            rows = for_each_row(store_row, rows, (numbers, new), self.batch_size)
        return jax.tree.map(lambda x, like: x.reshape(like.shape), rows, embeddings)
