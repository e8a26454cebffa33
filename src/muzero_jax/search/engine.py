"""The engine: builds the search trees of a batch of roots.

The engine of this project is a drop-in for `mctx.search`, with the same arguments and the same
`mctx.Tree`, whose cost is proportional to the nodes that the simulations pass through.
docs/search.md shows the arrays and says what was measured.

A simulation is one call of the network, and one call of a kernel that, root by root, adds the new
node, backs its value up, lets each node on the path choose again (backward.py), and follows the
choices down to the next leaf (simulate.py). There are two kernels: one in C++ for the rules of this
project (cpp_trees.py), and one that XLA compiles from backward.py and simulate.py, for any rule. A
model that answers for single nodes can be part of XLA's kernel; then all simulations of a root are
done before the next root's simulations (row_model.py).
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
from muzero_jax.search.backward import backward
from muzero_jax.search.cpp_trees import cpp_trees
from muzero_jax.search.nodes import (
    Leaf,
    NewNode,
    Nodes,
    Roots,
    as_rows,
    first_nodes,
    new_nodes,
    take_each,
    to_tree,
    with_room,
)
from muzero_jax.search.one_kernel import for_each_row, put_row, take_row
from muzero_jax.search.row_model import NodeModel, grow_trees
from muzero_jax.search.rules import TreeSpec, as_rule
from muzero_jax.search.simulate import Context, simulate

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
    """Searches a batch of roots as `mctx.search` does.

    Rules of `search/rules.py` are asked only where a node changed. Any other function is called, as
    mctx calls it, at every node on the way down. It is given a tree that holds that one node, so it
    may read the node it is asked about (as all of mctx's functions do) and no other.

    Args:
      params: parameters for `recurrent_fn`.
      rng_key: consumed.
      root: `(prior_logits [B, A], value [B], embedding [B, ...])`.
      recurrent_fn: `(params, rng_key, action [B], embedding)` to `(RecurrentFnOutput, embedding)`;
        a `NodeModel` is asked inside of the kernel where the rules need no chance.
      root_action_selection_fn: `(rng_key, tree, node_index)` to an action, for one root.
      interior_action_selection_fn: `(rng_key, tree, node_index, depth)` to an action, below it.
      num_simulations: number of simulations `N`.
      max_depth: longest path in edges; a leaf there is evaluated again; None for no limit.
      invalid_actions: `[B, A]`, nonzero where the root's action may not be taken.
      extra_data: `[B, ...]` data that the rules may read at the root.
      loop_fn: loop that runs the simulations, with the arguments of `jax.lax.fori_loop`.
      cpp: whether to use the kernel in C++ where it has code for the search (cpp_trees.py).

    Returns:
      The tree of `N + 1` nodes a root, in the order of their expansion.
    """
    if invalid_actions is None:
        invalid_actions = jnp.zeros_like(root.prior_logits)
    spec = TreeSpec(
        root_rule=as_rule(root_action_selection_fn),
        interior_rule=as_rule(interior_action_selection_fn),
        num_nodes=num_simulations + 1,
        num_actions=root.prior_logits.shape[1],
        max_depth=num_simulations if max_depth is None else max_depth,
    )
    roots = Roots(invalid_actions, extra_data)
    is_plain = spec.needs_only_nodes and loop_fn is jax.lax.fori_loop and num_simulations > 0
    if is_plain and isinstance(recurrent_fn, NodeModel):
        nodes, embeddings = grow_trees(spec, recurrent_fn, params, rng_key, root, roots)
        return to_tree(root, nodes, embeddings, roots)
    trees: Trees | None = cpp_trees(spec, root, roots, rng_key) if cpp else None
    trees = trees or _XlaTrees(spec, root, roots)
    embeddings = jax.tree.map(lambda x: with_room(x, spec.num_nodes), root.embedding)
    nodes, leaf = trees.plant(rng_key, embeddings)
    simulate_all = functools.partial(
        _simulate, trees, recurrent_fn, params, leaves_are_new=max_depth is None
    )
    state = _State(rng_key, nodes, embeddings, leaf)
    state = loop_fn(0, num_simulations, simulate_all, state)
    return trees.as_tree(state.nodes, state.embeddings)


class Trees(Protocol):
    """How a kernel stores the trees of a batch of roots, and what a simulation does to them.

    The storage of the nodes (`nodes`) is opaque: only the class itself reads it. The embeddings
    `[B, N + 1, ...]` are kept apart; the engine stores them.
    """

    def plant(self, rng_key: PRNGKey, embeddings: PyTree) -> tuple[PyTree, Leaf]:
        """Returns trees that are roots only, and the leaves of the first simulation.

        The leaves are found with the second of the three keys that `rng_key` is split into, as in
        mctx.
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
        """Adds a node to each tree, backs its value up, and finds the next leaves.

        Args:
          nodes: stored nodes.
          leaf: where the new nodes are added.
          step: the model's answers about the leaves, `[B, ...]`.
          numbers: `[B]` numbers of the new nodes in their trees.
          rng_key: the first of the three keys that the last simulation's key is split into.
          embeddings: `[B, N + 1, ...]` embeddings of the nodes, the new ones included.

        Returns:
          The nodes, and the leaves of the next simulation.
        """
        ...

    def as_tree(self, nodes: PyTree, embeddings: PyTree) -> mctx.Tree:
        """Converts the trees to mctx's form."""
        ...


@dataclasses.dataclass(frozen=True)
class _XlaTrees:
    """Trees that XLA's kernel grows: any rule, any type of number, any model; see `Trees`."""

    spec: TreeSpec
    root: mctx.RootFnOutput
    roots: Roots

    def plant(self, rng_key: PRNGKey, embeddings: PyTree) -> tuple[Nodes, Leaf]:
        batch_size = len(self.root.value)
        nodes = first_nodes(self.root, self.spec)
        inputs = nodes, self._context(rng_key, embeddings)
        leaf = Leaf(jnp.zeros((batch_size, 3), jnp.int32))

        def find_leaf(row: Array, leaf: Leaf, inputs: tuple[Nodes, Context]) -> Leaf:
            return Leaf(put_row(leaf.links, row, simulate(self.spec, row, *inputs)))

        return nodes, for_each_row(find_leaf, leaf, inputs, batch_size)

    def grow(
        self,
        nodes: Nodes,
        leaf: Leaf,
        step: mctx.RecurrentFnOutput,
        numbers: Array,
        rng_key: PRNGKey,
        embeddings: PyTree,
    ) -> tuple[Nodes, Leaf]:
        new = new_nodes(self.spec, step, leaf, numbers)
        inputs = new, self._context(rng_key, embeddings)

        def grow_row(row: Array, state: tuple[Nodes, Leaf], inputs: tuple[NewNode, Context]) -> Any:
            (nodes, leaf), (new, context) = state, inputs
            new = jax.tree.map(lambda x: take_row(x, row), new)
            nodes, root = backward(self.spec, row, nodes, new)
            links = simulate(self.spec, row, nodes, context, root)
            return nodes, Leaf(put_row(leaf.links, row, links))

        return for_each_row(grow_row, (nodes, leaf), inputs, len(leaf.links))

    def as_tree(self, nodes: Nodes, embeddings: PyTree) -> mctx.Tree:
        return to_tree(self.root, nodes, embeddings, self.roots)

    def _context(self, rng_key: PRNGKey, embeddings: PyTree) -> Context:
        """What a choice may read; the keys are the keys of mctx's next simulation."""
        keys = jax.random.split(jax.random.split(rng_key, 3)[1], len(self.root.value))
        return Context(
            roots=self.roots,
            embeddings=jax.tree.map(as_rows, embeddings) if self.spec.shows_embeddings else None,
            keys=keys if self.spec.needs_keys else None,
        )


class _State(struct.PyTreeNode):
    """What is carried from one simulation to the next.

    Attributes:
      rng_key: the key of the last simulation.
      nodes: the stored nodes, see `Trees`.
      embeddings: `[B, N + 1, ...]` embeddings of the nodes.
      leaf: where the next simulation expands.
    """

    rng_key: PRNGKey
    nodes: PyTree
    embeddings: PyTree
    leaf: Leaf


def _simulate(
    trees: Trees,
    recurrent_fn: RecurrentFn,
    params: Params,
    simulation: Array,
    state: _State,
    *,
    leaves_are_new: bool,
) -> _State:
    """Expands the leaves, backs their values up, and finds the next leaves.

    `leaves_are_new` says that there is no depth limit, which can lead to the same leaf twice.
    """
    rng_key, _, expand_key = jax.random.split(state.rng_key, 3)
    leaf = state.leaf
    embedding = jax.tree.map(lambda x: take_each(x, leaf.parent), state.embeddings)
    step, embedding = recurrent_fn(params, expand_key, leaf.action, embedding)
    numbers = leaf.numbers(simulation + 1)
    if leaves_are_new:  # Then all new nodes have the number of the simulation.
        store = functools.partial(jax.lax.dynamic_update_index_in_dim, index=simulation + 1, axis=1)
        embeddings = jax.tree.map(store, state.embeddings, embedding)
    else:
        embeddings = _store(state.embeddings, embedding, numbers)
    # The key of the last simulation finds a leaf that is not expanded.
    nodes, leaf = trees.grow(state.nodes, leaf, step, numbers, rng_key, embeddings)
    return _State(rng_key, nodes, embeddings, leaf)


def _store(embeddings: PyTree, new: PyTree, numbers: Array) -> PyTree:
    """Stores the embeddings of the nodes `numbers [B]`, which may be different in each tree."""

    def store_row(row: Array, embeddings: PyTree, inputs: PyTree) -> PyTree:
        numbers, new = inputs
        index = row * num_nodes + take_row(numbers, row)
        return jax.tree.map(lambda x, y: put_row(x, index, take_row(y, row)), embeddings, new)

    leaves = jax.tree.leaves(embeddings)
    if not leaves:
        return embeddings
    num_nodes = leaves[0].shape[1]
    rows = jax.tree.map(as_rows, embeddings)
    rows = for_each_row(store_row, rows, (numbers, new), len(numbers))
    return jax.tree.map(lambda x, like: x.reshape(like.shape), rows, embeddings)
