"""The nodes of all trees of a batch as flat arrays, and as `mctx.Tree`."""

import jax
import jax.numpy as jnp
import mctx
from flax import struct

from muzero_jax.core.types import Array, PyTree
from muzero_jax.search.rules import UNDECIDED

# Columns of `Nodes.links`.
PARENT, ACTION, VISITS, CHOICE = range(4)


class Nodes(struct.PyTreeNode):
    """All nodes of all trees, a row a node, `N + 1` rows a root: `[B * (N + 1), ...]` each.

    Few arrays, because each costs the kernel a pointer; what changes on the way up is apart from
    what does not, because XLA copies an array that it cannot see to be read before it is written.

    Attributes:
      fixed: `[2 A + 1]` prior logits, prior probabilities, and the network's value.
      links: `[4]` int32, the parent, the action that led from there, visits of the node, and the
        action that it chooses next.
      qvalues: `[A]` reward and discounted value of each action.
      visits: `[A]` int32, of each action.
      value: `[]` mean of the backed-up values.
      visited_prob: `[]` prior probability of the actions that were visited, together.
      edges: one row an action, `[B * (N + 1) * A, 2]`: its reward and discount.
      children: one row an action, int32: the child it leads to, or -1.
      q_bounds: one row a root, `[B, 2]`: lowest and highest Q-value that the tree has had; None
        where no rule reads them.
    """

    fixed: Array
    links: Array
    qvalues: Array
    visits: Array
    value: Array
    visited_prob: Array
    edges: Array
    children: Array
    q_bounds: Array | None


class NewNode(struct.PyTreeNode):
    """The node that a simulation adds to each tree, in as few arrays as possible.

    Attributes:
      links: `[B, 4]` int32, its number in the tree, its parent, the action that leads to it, and
        the action that it chooses.
      numbers: `[B, 2 A + 3]` its `Nodes.fixed`, and the reward and discount that lead to it.
    """

    links: Array
    numbers: Array


class Roots(struct.PyTreeNode):
    """What only the rule at a root may read, `[B, ...]`."""

    invalid_actions: Array
    extra_data: PyTree


def with_room(x: Array, num_nodes: int) -> Array:
    """`[B, N + 1, ...]`: `x [B, ...]` for the roots, zeros for the other nodes."""
    room = jnp.zeros((x.shape[0], num_nodes - 1, *x.shape[1:]), x.dtype)
    return jnp.concatenate([x[:, None], room], axis=1)


def as_rows(x: Array) -> Array:
    """`[B, N + 1, ...]` to a row a node."""
    return x.reshape(-1, *x.shape[2:])


def take_each(x: Array, nodes: Array) -> Array:
    """`x[b, nodes[b]]` of `x [B, N + 1, ...]`, for nodes that are known to exist."""
    return jax.vmap(lambda x, node: x.at[node].get(mode="clip"))(x, nodes)


def take_each_or(x: Array, nodes: Array, default: int) -> Array:
    """The same, or `default` where the node is negative."""
    return jnp.where(nodes >= 0, take_each(x, jnp.maximum(nodes, 0)), default)


def values_of_children(values: Array, children: Array) -> Array:
    """`[B, N + 1, A]` of `values [B, N + 1]` at `children [B, N + 1, A]`; 0 where there is none."""
    # Most callers look at the roots only; XLA leaves out a part that nobody looks at.
    of_roots = take_each_or(values, children[:, :1], 0)
    of_others = take_each_or(values, children[:, 1:], 0)
    return jnp.concatenate([of_roots, of_others], axis=1)


def fixed_rows(prior_logits: Array, value: Array) -> Array:
    """`[B, 2 A + 1]` as in `Nodes`."""
    probs = jax.nn.softmax(prior_logits)
    probs = jnp.maximum(jnp.finfo(probs.dtype).tiny, probs)
    return jnp.concatenate([prior_logits, probs, value[:, None]], axis=-1)


def first_nodes(root: mctx.RootFnOutput, num_nodes: int, with_bounds: bool) -> Nodes:
    """The roots, and room for the rest."""
    batch_size, num_actions = root.prior_logits.shape
    num_rows = batch_size * num_nodes
    dtype = root.value.dtype
    no_bounds = jnp.array([jnp.inf, -jnp.inf], dtype)
    is_root = jnp.arange(num_rows)[:, None] % num_nodes == 0
    nobody = [mctx.Tree.NO_PARENT] * 2
    links = jnp.where(is_root, jnp.array([*nobody, 1, UNDECIDED]), jnp.array([*nobody, 0, 0]))
    return Nodes(
        fixed=as_rows(with_room(fixed_rows(root.prior_logits, root.value), num_nodes)),
        links=links,
        qvalues=jnp.zeros((num_rows, num_actions), dtype),
        visits=jnp.zeros((num_rows, num_actions), jnp.int32),
        value=as_rows(with_room(root.value, num_nodes)),
        visited_prob=jnp.zeros(num_rows, root.prior_logits.dtype),
        edges=jnp.zeros((num_rows * num_actions, 2), dtype),
        children=jnp.full(num_rows * num_actions, mctx.Tree.UNVISITED, jnp.int32),
        q_bounds=jnp.tile(no_bounds, (batch_size, 1)) if with_bounds else None,
    )


def to_tree(root: mctx.RootFnOutput, nodes: Nodes, embeddings: PyTree, roots: Roots) -> mctx.Tree:
    """The nodes as mctx has them."""
    batch_size, num_actions = root.prior_logits.shape
    shape = batch_size, len(nodes.value) // batch_size

    def per_node(x: Array) -> Array:
        return x.reshape(*shape, *x.shape[1:])

    def per_action(x: Array) -> Array:
        return x.reshape(*shape, num_actions)

    fixed, values = per_node(nodes.fixed), per_node(nodes.value)
    children = per_action(nodes.children)
    return mctx.Tree(
        node_visits=per_node(nodes.links[:, VISITS]),
        raw_values=fixed[..., -1].astype(root.value.dtype),
        node_values=values,
        parents=per_node(nodes.links[:, PARENT]),
        action_from_parent=per_node(nodes.links[:, ACTION]),
        children_index=children,
        children_prior_logits=fixed[..., :num_actions].astype(root.prior_logits.dtype),
        children_values=values_of_children(values, children),
        children_visits=per_node(nodes.visits),
        children_rewards=per_action(nodes.edges[:, 0]),
        children_discounts=per_action(nodes.edges[:, 1]),
        embeddings=embeddings,
        root_invalid_actions=roots.invalid_actions,
        extra_data=roots.extra_data,
    )
