"""What a simulation carries while it walks: a leaf, a visit on the way up, a way down."""

import jax.numpy as jnp
from flax import struct

from muzero_jax.core.types import Array, PRNGKey, PyTree
from muzero_jax.search.nodes import Roots


class Leaf(struct.PyTreeNode):
    """Where a simulation leaves each tree.

    Attributes:
      links: `[B, 3]` int32: the parent, its action, and the child that leads to, or -1; cpp
        trees keep more beside them (`Leaf` in cpp/walk.h).
    """

    links: Array

    @property
    def parent(self) -> Array:
        """`[B]` a node of each tree."""
        return self.links[:, 0]

    @property
    def action(self) -> Array:
        """`[B]` an action of the parent."""
        return self.links[:, 1]

    @property
    def child(self) -> Array:
        """`[B]` the node that it leads to, or -1."""
        return self.links[:, 2]

    def numbers(self, number: Array) -> Array:
        """`[B]` the node that it leads to, or `number` where that has still to be added."""
        return jnp.where(self.child < 0, number, self.child)


class Visit(struct.PyTreeNode):
    """A node on the way up; the tried action's visit and Q-value are already those after it.

    Attributes:
      index: `[]` its row.
      visits: `[A]`.
      qvalues: `[A]`.
      visit_count: `[]` of the node, without the visit that is being counted.
      value: `[]` likewise.
      target: `[]` what the leaf is worth, seen from here.
      q_bounds: `[2]` the tree's, or None where no rule reads them.
    """

    index: Array
    visits: Array
    qvalues: Array
    visit_count: Array
    value: Array
    target: Array
    q_bounds: Array | None


class Way(struct.PyTreeNode):
    """A simulation on its way down: scalars.

    Attributes:
      index: the row that was chosen at.
      action: the choice.
      child: the node it leads to, or -1.
      depth: edges chosen so far.
      key: of the way, after `num_splits` splits; None where all rules decide.
      num_splits: of the key.
    """

    index: Array
    action: Array
    child: Array
    depth: Array
    key: PRNGKey | None
    num_splits: Array


class Context(struct.PyTreeNode):
    """What choosing may read beside the nodes.

    Attributes:
      roots: of each row.
      embeddings: `[B * (N + 1), ...]`, or None where no rule may look at them.
      keys: `[B]` of the ways down, or None.
    """

    roots: Roots
    embeddings: PyTree
    keys: PRNGKey | None
