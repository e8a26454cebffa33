"""Trees that XLA's kernel grows: any rule, any type of number, any model (walk.py)."""

import dataclasses

import jax
import jax.numpy as jnp
import mctx

from muzero_jax.core.types import Array, PRNGKey, PyTree
from muzero_jax.search.nodes import Nodes, Roots, as_rows, first_nodes, to_tree
from muzero_jax.search.one_kernel import for_each_row
from muzero_jax.search.walk import Walk
from muzero_jax.search.walk_state import Context, Leaf


@dataclasses.dataclass(frozen=True)
class XlaTrees:
    """See `engine.Trees`.

    Attributes:
      walk: the way through one tree.
      roots: what only the rule at a root may read.
    """

    walk: Walk
    roots: Roots

    def plant(
        self, root: mctx.RootFnOutput, rng_key: PRNGKey, embeddings: PyTree
    ) -> tuple[Nodes, Leaf]:
        """See `engine.Trees`."""
        batch_size = len(root.value)
        nodes = first_nodes(root, self.walk.num_nodes, with_bounds=self.walk.needs_bounds)
        inputs = nodes, self._context(rng_key, embeddings, batch_size)
        leaf = Leaf(jnp.zeros((batch_size, 3), jnp.int32))
        return nodes, for_each_row(self.walk.find_first_leaf, leaf, inputs, batch_size)

    def grow(
        self,
        nodes: Nodes,
        leaf: Leaf,
        step: mctx.RecurrentFnOutput,
        numbers: Array,
        rng_key: PRNGKey,
        embeddings: PyTree,
    ) -> tuple[Nodes, Leaf]:
        """See `engine.Trees`."""
        batch_size = len(leaf.links)
        new = self.walk.new_node(step, leaf, numbers)
        inputs = new, self._context(rng_key, embeddings, batch_size)
        return for_each_row(self.walk.backup_and_select, (nodes, leaf), inputs, batch_size)

    def as_tree(self, root: mctx.RootFnOutput, nodes: Nodes, embeddings: PyTree) -> mctx.Tree:
        """See `engine.Trees`."""
        return to_tree(root, nodes, embeddings, self.roots)

    def _context(self, rng_key: PRNGKey, embeddings: PyTree, batch_size: int) -> Context:
        """What choosing may read; the keys are those that mctx's next simulation would use."""
        keys = jax.random.split(jax.random.split(rng_key, 3)[1], batch_size)
        return Context(
            roots=self.roots,
            embeddings=jax.tree.map(as_rows, embeddings) if self.walk.shows_embeddings else None,
            keys=keys if self.walk.needs_keys else None,
        )
