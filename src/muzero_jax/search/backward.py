"""The way up: the value of a new node is backed up to its root, and nodes on the way choose anew.

All functions are about one tree of a batch, whose number is `row`; `one_kernel.for_each_row` runs
them for all. mctx has a function of the same name.
"""

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.core.types import Array
from muzero_jax.search.nodes import ACTION, PARENT, VISITS, NewNode, Nodes
from muzero_jax.search.one_kernel import put_row, take_row
from muzero_jax.search.rules import UNDECIDED, Node, TreeSpec


class Visit(struct.PyTreeNode):
    """A node that the way up has reached.

    `visits` and `qvalues` already count the visit that is being backed up; `visit_count` and
    `value` do not count it yet.

    Attributes:
      index: `[]` row of the node in `Nodes`.
      visits: `[A]` visits of the actions.
      qvalues: `[A]` Q-values of the actions.
      visit_count: `[]` visits of the node.
      value: `[]` mean of the values that were backed up to the node.
      target: `[]` value of the leaf, with the rewards and discounts on the way up to this node.
      q_bounds: `[2]` lowest and highest Q-value of the tree; None where no rule reads them.
    """

    index: Array
    visits: Array
    qvalues: Array
    visit_count: Array
    value: Array
    target: Array
    q_bounds: Array | None


def visit_at(row: Array, nodes: Nodes, index: Array) -> Visit:
    """Reads a node as it is stored, with a target of 0.

    Args:
      row: number of the tree.
      nodes: all nodes of all trees.
      index: row of the node in `nodes`.
    """
    return Visit(
        index=index,
        visits=take_row(nodes.visits, index),
        qvalues=take_row(nodes.qvalues, index),
        visit_count=take_row(nodes.links, index)[VISITS],
        value=take_row(nodes.value, index),
        target=jnp.zeros((), nodes.value.dtype),
        q_bounds=None if nodes.q_bounds is None else take_row(nodes.q_bounds, row),
    )


def node_of(nodes: Nodes, visit: Visit) -> Node:
    """The statistics that a rule reads at a visited node."""
    fixed = take_row(nodes.fixed, visit.index)
    num_actions = visit.visits.shape[0]
    return Node(
        prior_logits=fixed[:num_actions],
        prior_probs=fixed[num_actions:-1],
        visits=visit.visits,
        qvalues=visit.qvalues,
        raw_value=fixed[-1],
        value=visit.value,
        visit_count=visit.visit_count,
        visited_prob=take_row(nodes.visited_prob, visit.index),
        q_bounds=visit.q_bounds,
    )


def backward(spec: TreeSpec, row: Array, nodes: Nodes, new: NewNode) -> tuple[Nodes, Visit]:
    """Adds a new node to a tree and backs its value up to the root.

    Args:
      spec: rules and sizes of the trees.
      row: number of the tree.
      nodes: all nodes of all trees.
      new: the new node, without the axis `B`.

    Returns:
      The nodes, and the root as it is now.
    """
    first = row * spec.num_nodes
    links, numbers = new.links, new.numbers
    index, origin = first + links[0], links[1:3]
    fixed, edge = numbers[:-2], numbers[-2:]
    value = fixed[-1].astype(nodes.value.dtype)
    edge = edge.astype(nodes.edges.dtype)
    slot = (first + origin[0]) * spec.num_actions + origin[1]
    # A depth limit leads to the same leaf again, which then has one more visit.
    visit_count = take_row(nodes.links, index)[VISITS] + 1
    nodes = nodes.replace(
        fixed=put_row(nodes.fixed, index, fixed),
        value=put_row(nodes.value, index, value),
        links=put_row(nodes.links, index, jnp.stack([*origin, visit_count, links[3]])),
        edges=put_row(nodes.edges, slot, edge),
        children=put_row(nodes.children, slot, links[0]),
    )
    parent = _arrive(spec, row, nodes, (origin, edge), (value, value))
    nodes, root = jax.lax.while_loop(
        lambda state: state[1].index != first,
        lambda state: _climb(spec, row, *state),
        (_sum_visited_prob(nodes, parent), parent),
    )
    nodes, root = _count(row, nodes, root)
    return _store_choice(nodes, root, jnp.int32(UNDECIDED)), root


def _sum_visited_prob(nodes: Nodes, parent: Visit) -> Nodes:
    """Updates the sum at a new node's parent, where an action was visited for the first time."""
    probs = take_row(nodes.fixed, parent.index)[parent.visits.shape[0] : -1]
    visited_prob = jnp.sum(jnp.where(parent.visits > 0, probs, 0.0))
    return nodes.replace(visited_prob=put_row(nodes.visited_prob, parent.index, visited_prob))


def _arrive(
    spec: TreeSpec,
    row: Array,
    nodes: Nodes,
    link: tuple[Array, Array],
    child: tuple[Array, Array],
) -> Visit:
    """Visits a parent from its child.

    `link` is `[parent, action]` and `[reward, discount]`, `child` the child's value and target.
    """
    (origin, edge), (value, target) = link, child
    visit = visit_at(row, nodes, row * spec.num_nodes + origin[0])
    tried = jnp.arange(spec.num_actions) == origin[1]
    qvalue = edge[0] + edge[1] * value
    return visit.replace(
        visits=visit.visits + tried,
        qvalues=jnp.where(tried, qvalue, visit.qvalues),
        target=edge[0] + edge[1] * target,
        q_bounds=_widened(visit.q_bounds, qvalue),
    )


def _climb(spec: TreeSpec, row: Array, nodes: Nodes, visit: Visit) -> tuple[Nodes, Visit]:
    """Counts a visit, lets the node choose again, and goes on to its parent."""
    nodes, visit = _count(row, nodes, visit)
    choice = jnp.int32(UNDECIDED)
    if spec.remembers_choices:
        choice = spec.interior_rule.decide(node_of(nodes, visit))
    # The parent is read after the choice is stored, in the same array. If the parent's row were
    # loaded while this node's row is still in use, XLA would copy both arrays at every step.
    nodes = _store_choice(nodes, visit, choice)
    origin = take_row(nodes.links, visit.index)[PARENT : ACTION + 1]
    slot = (row * spec.num_nodes + origin[0]) * spec.num_actions + origin[1]
    edge = take_row(nodes.edges, slot)
    return nodes, _arrive(spec, row, nodes, (origin, edge), (visit.value, visit.target))


def _count(row: Array, nodes: Nodes, visit: Visit) -> tuple[Nodes, Visit]:
    """Takes the target into the node's mean, and stores all of the node but its `links`."""
    total = visit.value * visit.visit_count + visit.target
    visit = visit.replace(
        value=total / (visit.visit_count + 1.0), visit_count=visit.visit_count + 1
    )
    nodes = nodes.replace(
        visits=put_row(nodes.visits, visit.index, visit.visits),
        qvalues=put_row(nodes.qvalues, visit.index, visit.qvalues),
        value=put_row(nodes.value, visit.index, visit.value),
    )
    if nodes.q_bounds is not None and visit.q_bounds is not None:
        nodes = nodes.replace(q_bounds=put_row(nodes.q_bounds, row, visit.q_bounds))
    return nodes, visit


def _store_choice(nodes: Nodes, visit: Visit, choice: Array) -> Nodes:
    """Stores a node's visits and choice, the last half of its `links`."""
    counts = jnp.stack([visit.visit_count, choice])
    return nodes.replace(links=put_row(nodes.links, visit.index, counts, column=VISITS))


def _widened(bounds: Array | None, value: Array) -> Array | None:
    if bounds is None:
        return None
    return jnp.stack([jnp.minimum(bounds[0], value), jnp.maximum(bounds[1], value)])
