"""The way down: from a root along the choices of the rules to the leaf that is expanded next.

All functions are about one tree of a batch, whose number is `row`; `one_kernel.for_each_row` runs
them for all. mctx has a function of the same name.
"""

import jax
import jax.numpy as jnp
import mctx
from flax import struct

from muzero_jax.core.types import Array, PRNGKey, PyTree
from muzero_jax.search.backward import Visit, node_of, visit_at
from muzero_jax.search.nodes import ACTION, CHOICE, PARENT, Nodes, Roots
from muzero_jax.search.one_kernel import take_row
from muzero_jax.search.rules import UNDECIDED, TreeSpec


class Context(struct.PyTreeNode):
    """What a choice may read beside the nodes.

    Attributes:
      roots: facts about each root.
      embeddings: `[B * (N + 1), ...]`, or None where no rule may read them.
      keys: `[B]` keys of the ways down, or None where all rules decide.
    """

    roots: Roots
    embeddings: PyTree
    keys: PRNGKey | None


class Descent(struct.PyTreeNode):
    """A simulation on its way down: scalars.

    Attributes:
      index: row of the node at which the last choice was made.
      action: the action chosen there.
      child: the node that the action leads to, or -1.
      depth: edges chosen so far.
      key: key of this way down, after `num_splits` splits; None where all rules decide.
      num_splits: number of times that the key was split.
    """

    index: Array
    action: Array
    child: Array
    depth: Array
    key: PRNGKey | None
    num_splits: Array


def simulate(
    spec: TreeSpec, row: Array, nodes: Nodes, context: Context, root: Visit | None = None
) -> Array:
    """Follows the rules from the root to an action that leads to no node yet.

    Args:
      spec: rules and sizes of the trees.
      row: number of the tree.
      nodes: all nodes of all trees.
      context: what a choice may read beside the nodes.
      root: the root, where `backward` has just visited it; None reads it from `nodes`.

    Returns:
      `[3]` a row of `Leaf.links`.
    """
    first = row * spec.num_nodes
    root = visit_at(row, nodes, first) if root is None else root
    facts = jax.tree.map(lambda x: take_row(x, row), context.roots)
    node = node_of(nodes, root)._replace(
        invalid_actions=facts.invalid_actions, extra_data=facts.extra_data
    )
    descent = Descent(
        index=first,
        action=spec.root_rule.decide(node),
        child=jnp.int32(UNDECIDED),
        depth=jnp.int32(0),
        key=None if context.keys is None else context.keys[row],
        num_splits=jnp.int32(0),
    )
    descent = _take_edge(spec, row, nodes, context, descent, is_root=True)
    descent = jax.lax.while_loop(
        lambda descent: (descent.child >= 0) & (descent.depth < spec.max_depth),
        lambda descent: _descend(spec, row, nodes, context, descent),
        descent,
    )
    return jnp.stack([descent.index - first, descent.action, descent.child])


def _descend(
    spec: TreeSpec, row: Array, nodes: Nodes, context: Context, descent: Descent
) -> Descent:
    """Goes from an action to the child it leads to, and takes the action that is chosen there."""
    index = row * spec.num_nodes + descent.child
    if spec.remembers_choices:
        choice = take_row(nodes.links, index)[CHOICE]
    else:
        choice = spec.interior_rule.decide(node_of(nodes, visit_at(row, nodes, index)))
    descent = descent.replace(index=index, action=choice)
    return _take_edge(spec, row, nodes, context, descent, is_root=False)


def _take_edge(
    spec: TreeSpec, row: Array, nodes: Nodes, context: Context, descent: Descent, is_root: bool
) -> Descent:
    """Settles an undecided choice, and looks up where the action leads."""
    rule = spec.root_rule if is_root else spec.interior_rule
    if not rule.always_decides:
        descent = jax.lax.cond(
            descent.action == UNDECIDED,
            lambda: _call_rule(spec, row, nodes, context, descent, is_root),
            lambda: descent,
        )
    child = take_row(nodes.children, descent.index * spec.num_actions + descent.action)
    return descent.replace(child=child, depth=descent.depth + 1)


def _call_rule(
    spec: TreeSpec, row: Array, nodes: Nodes, context: Context, descent: Descent, is_root: bool
) -> Descent:
    """Calls a rule as mctx does, with the key that mctx would have given it.

    mctx splits a key at every node on the way down. Splits that were skipped at decided nodes are
    made up for here, so that the random numbers are mctx's.
    """
    key = jax.lax.fori_loop(
        descent.num_splits, descent.depth, lambda _, key: jax.random.split(key)[0], descent.key
    )
    key, action_key = jax.random.split(key)
    tree = _one_node_tree(spec, row, nodes, context, descent.index)
    if is_root:
        action = spec.root_rule(action_key, tree, 0)
    else:
        action = spec.interior_rule(action_key, tree, 0, descent.depth)
    return descent.replace(action=action.astype(jnp.int32), key=key, num_splits=descent.depth + 1)


def _one_node_tree(
    spec: TreeSpec, row: Array, nodes: Nodes, context: Context, index: Array
) -> mctx.Tree:
    """An unbatched `mctx.Tree` that holds one node."""
    first = row * spec.num_nodes
    node = node_of(nodes, visit_at(row, nodes, index))
    slots = index * spec.num_actions + jnp.arange(spec.num_actions)
    children, edges, links = nodes.children[slots], nodes.edges[slots], nodes.links[index]
    known = jnp.where(children >= 0, nodes.value[first + jnp.maximum(children, 0)], 0)
    fields = {
        "node_visits": node.visit_count,
        "raw_values": node.raw_value,
        "node_values": node.value,
        "parents": links[PARENT],
        "action_from_parent": links[ACTION],
        "children_index": children,
        "children_prior_logits": node.prior_logits,
        "children_values": known,
        "children_visits": node.visits,
        "children_rewards": edges[:, 0],
        "children_discounts": edges[:, 1],
        "embeddings": jax.tree.map(lambda x: take_row(x, index), context.embeddings),
    }
    facts = jax.tree.map(lambda x: take_row(x, row), context.roots)
    return mctx.Tree(
        **jax.tree.map(lambda x: x[None], fields),
        root_invalid_actions=facts.invalid_actions,
        extra_data=facts.extra_data,
    )
