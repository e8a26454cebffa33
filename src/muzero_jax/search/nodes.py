"""The nodes of all trees of a batch as flat arrays, and as `mctx.Tree`."""

import chex
import jax
import jax.numpy as jnp
import mctx
from flax import struct

from muzero_jax.core.types import Array, PyTree
from muzero_jax.search.rules import UNDECIDED, TreeSpec

# Columns of `Nodes.links`.
PARENT, ACTION, VISITS, CHOICE = range(4)


class Nodes(struct.PyTreeNode):
    """All nodes of all trees, a row a node, `N + 1` rows a root: `[B * (N + 1), ...]` each.

    There are few arrays, because each costs the kernel a pointer. Numbers that change on the way up
    lie in other arrays than numbers that do not, because XLA copies an array unless it can see that
    the array is read before it is written.

    Attributes:
      fixed: `[2 A + 1]` prior logits, prior probabilities, and the network's value.
      links: `[4]` int32, the parent, the parent's action that leads here, visits of the node, and
        the action that the node chooses next.
      qvalues: `[A]` reward and discounted value of each action.
      visits: `[A]` int32 visits of each action.
      value: `[]` mean of the backed-up values.
      visited_prob: `[]` sum of the prior probabilities of the visited actions.
      edges: reward and discount of each action, a row an action: `[B * (N + 1) * A, 2]`.
      children: int32 child of each action, or -1, a row an action: `[B * (N + 1) * A]`.
      q_bounds: lowest and highest Q-value that a tree has had, a row a root: `[B, 2]`; None where
        no rule reads them.
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
      links: `[B, 4]` int32, the node's number in its tree, its parent, the parent's action that
        leads to it, and the action that it chooses.
      numbers: `[B, 2 A + 3]` its `Nodes.fixed`, and the reward and discount that lead to it.
    """

    links: Array
    numbers: Array


class Leaf(struct.PyTreeNode):
    """Where a simulation leaves each tree.

    Attributes:
      links: `[B, 3]` int32: a node, its action, and the child that the action leads to, or -1. The
        cpp trees keep more columns after these (`Leaf` in cpp/simulate.h).
    """

    links: Array

    @property
    def parent(self) -> Array:
        """`[B]` the node at which the tree is left."""
        return self.links[:, 0]

    @property
    def action(self) -> Array:
        """`[B]` the action that is taken there."""
        return self.links[:, 1]

    @property
    def child(self) -> Array:
        """`[B]` the node that the action leads to, or -1."""
        return self.links[:, 2]

    def numbers(self, number: Array) -> Array:
        """`[B]` the child, or `number` where the child has still to be added."""
        return jnp.where(self.child < 0, number, self.child)


class Roots(struct.PyTreeNode):
    """What only the rule at a root may read.

    Attributes:
      invalid_actions: `[B, A]` nonzero where the action may not be taken.
      extra_data: `[B, ...]` see `mctx.Tree.extra_data`.
    """

    invalid_actions: Array
    extra_data: PyTree


def with_room(x: Array, num_nodes: int) -> Array:
    """`[B, N + 1, ...]`: `x [B, ...]` for the roots, zeros for the other nodes."""
    room = jnp.zeros((x.shape[0], num_nodes - 1, *x.shape[1:]), x.dtype)
    return jnp.concatenate([x[:, None], room], axis=1)


def as_rows(x: Array) -> Array:
    """Reshapes `[B, N + 1, ...]` to a row a node, `[B * (N + 1), ...]`."""
    return x.reshape(-1, *x.shape[2:])


def take_each(x: Array, nodes: Array, default: int | None = None) -> Array:
    """Reads one or more nodes of each tree.

    Args:
      x: `[B, N + 1, ...]` array of the nodes.
      nodes: `[B, ...]` int32 nodes to read.
      default: the result where a node is negative; None where all nodes exist.
    """
    index = nodes if default is None else jnp.maximum(nodes, 0)
    taken = jax.vmap(lambda x, node: x.at[node].get(mode="clip"))(x, index)
    return taken if default is None else jnp.where(nodes >= 0, taken, default)


def values_of_children(values: Array, children: Array) -> Array:
    """`[B, N + 1, A]` of `values [B, N + 1]` at `children [B, N + 1, A]`; 0 where there is none."""
    # Most callers read the roots only, and XLA leaves out a part that nobody reads.
    of_roots = take_each(values, children[:, :1], 0)
    of_others = take_each(values, children[:, 1:], 0)
    return jnp.concatenate([of_roots, of_others], axis=1)


def _fixed_rows(prior_logits: Array, value: Array) -> Array:
    """`[B, 2 A + 1]` rows of `Nodes.fixed`."""
    probs = jax.nn.softmax(prior_logits)
    probs = jnp.maximum(jnp.finfo(probs.dtype).tiny, probs)
    return jnp.concatenate([prior_logits, probs, value[:, None]], axis=-1)


def first_nodes(root: mctx.RootFnOutput, spec: TreeSpec) -> Nodes:
    """The roots, and zeros in the rows of the nodes that are still to come."""
    batch_size, num_actions = root.prior_logits.shape
    num_nodes, dtype = spec.num_nodes, root.value.dtype
    num_rows = batch_size * num_nodes
    no_bounds = jnp.array([jnp.inf, -jnp.inf], dtype)
    is_root = jnp.arange(num_rows)[:, None] % num_nodes == 0
    nobody = [mctx.Tree.NO_PARENT] * 2
    links = jnp.where(is_root, jnp.array([*nobody, 1, UNDECIDED]), jnp.array([*nobody, 0, 0]))
    return Nodes(
        fixed=as_rows(with_room(_fixed_rows(root.prior_logits, root.value), num_nodes)),
        links=links,
        qvalues=jnp.zeros((num_rows, num_actions), dtype),
        visits=jnp.zeros((num_rows, num_actions), jnp.int32),
        value=as_rows(with_room(root.value, num_nodes)),
        visited_prob=jnp.zeros(num_rows, root.prior_logits.dtype),
        edges=jnp.zeros((num_rows * num_actions, 2), dtype),
        children=jnp.full(num_rows * num_actions, mctx.Tree.UNVISITED, jnp.int32),
        q_bounds=jnp.tile(no_bounds, (batch_size, 1)) if spec.needs_bounds else None,
    )


def new_nodes(spec: TreeSpec, step: mctx.RecurrentFnOutput, leaf: Leaf, numbers: Array) -> NewNode:
    """The nodes that a model's answers about `[B]` leaves make.

    Args:
      spec: rules and sizes of the trees.
      step: the model's answers, `[B, ...]`.
      leaf: the leaves that were asked about.
      numbers: `[B]` the numbers of the new nodes in their trees.
    """
    chex.assert_equal_shape([step.reward, step.discount, step.value, leaf.action])
    chex.assert_shape(step.prior_logits, (*leaf.action.shape, spec.num_actions))
    fixed = _fixed_rows(step.prior_logits, step.value)
    choice = jax.vmap(spec.interior_rule.decide_unvisited)(fixed[:, spec.num_actions : -1])
    edge = jnp.stack([step.reward, step.discount], axis=-1)
    return NewNode(
        links=jnp.stack([numbers, leaf.parent, leaf.action, choice], axis=-1),
        numbers=jnp.concatenate([fixed, edge], axis=-1),
    )


def to_tree(root: mctx.RootFnOutput, nodes: Nodes, embeddings: PyTree, roots: Roots) -> mctx.Tree:
    """Converts the nodes to mctx's form.

    Args:
      root: the roots, for their types of number.
      nodes: all nodes of all trees.
      embeddings: `[B, N + 1, ...]` embeddings of the nodes.
      roots: facts about the roots, which the tree carries along.
    """
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
