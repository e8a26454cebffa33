"""Searches of one root after the other, the model included, in one kernel.

A model of a few operations on a few numbers, as a table is, costs less than starting the kernels
that would ask it about all roots at once. Here it is asked about one node at a time.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mctx

from muzero_jax.search.nodes import Nodes, Roots, as_rows, first_nodes, with_room
from muzero_jax.search.one_kernel import (
    equations,
    for_each_row_sharing,
    has_kernel,
    put_row,
    take_row,
)
from muzero_jax.search.walk import Walk
from muzero_jax.search.walk_state import Context, Leaf
from muzero_jax.types import Array, PRNGKey, PyTree

# Of a single node: a kernel of one node after the other computes with single numbers.
_MOST_NUMBERS = 64
# Of the constants, which the kernel copies for each root.
_MOST_BYTES = 1 << 16


class RowModel(NamedTuple):
    """A model of a single node.

    Attributes:
      ask: from `constants`, an action `[1]` and an embedding `[1, ...]` to what the model says.
      constants: arrays that it reads.
    """

    ask: Callable[[Sequence[Array], Array, PyTree], tuple[mctx.RecurrentFnOutput, PyTree]]
    constants: Sequence[Array]


def as_row_model(
    model: Callable[[PRNGKey, Array, PyTree], tuple[mctx.RecurrentFnOutput, PyTree]],
    rng_key: PRNGKey,
    embedding: PyTree,
) -> RowModel | None:
    """The `model` as a part of a kernel.

    None where a kernel cannot hold it, where it draws random numbers, and where it is better asked
    about many nodes at once: it computes vectors, or reads much.

    Args:
      model: `(rng_key, action [B], embedding)` to `(RecurrentFnOutput, embedding)`.
      rng_key: not consumed.
      embedding: `[B, ...]`.
    """
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), embedding)
    action = jax.ShapeDtypeStruct((1,), jnp.int32)
    traced, shape = jax.make_jaxpr(model, return_shape=True)(rng_key, action, one)
    jaxpr, constants = traced.jaxpr, traced.consts
    is_small = _largest_result(jaxpr) <= _MOST_NUMBERS and _bytes(constants) <= _MOST_BYTES
    if not is_small or not has_kernel(jaxpr) or _is_used(jaxpr.invars[0], jaxpr):
        return None

    def ask(constants: Sequence[Array], action: Array, embedding: PyTree) -> Any:
        inputs = (None, action, *jax.tree.leaves(embedding))
        outputs = jax.core.eval_jaxpr(jaxpr, constants, *inputs)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return RowModel(ask, constants)


def grow_trees(
    walk: Walk, model: RowModel, root: mctx.RootFnOutput, roots: Roots
) -> tuple[Nodes, PyTree]:
    """All simulations of all roots.

    Args:
      walk: the way through one tree.
      model: asked about each new node.
      root: of each tree.
      roots: what only the rule at a root may read.

    Returns:
      The nodes, and the embeddings `[B, N + 1, ...]`.
    """
    num_nodes, batch_size = walk.num_nodes, len(root.value)
    nodes = first_nodes(root, num_nodes, with_bounds=walk.needs_bounds)
    embeddings = jax.tree.map(lambda x: with_room(x, num_nodes), root.embedding)

    def grow(row: Array, state: PyTree, roots: Roots, constants: Sequence[Array]) -> PyTree:
        context = Context(roots, embeddings=None, keys=None)

        def parent_embedding(embeddings: PyTree, links: Array) -> PyTree:
            return jax.tree.map(lambda x: take_row(x, row * num_nodes + links[0]), embeddings)

        def simulate(simulation: Array, state: PyTree) -> PyTree:
            nodes, embeddings, links, embedding = state
            embedding = jax.tree.map(lambda x: x[None], embedding)
            step, embedding = model.ask(constants, links[1][None], embedding)
            new = walk.new_node(step, Leaf(links[None]), simulation + 1)
            new = jax.tree.map(lambda x: x[0], new)
            index = row * num_nodes + new.links[0]
            embeddings = jax.tree.map(lambda x, e: put_row(x, index, e), embeddings, embedding)
            nodes, links = walk.next_links(row, nodes, new, context)
            # Read here, after the writing: read before it, XLA would copy all embeddings.
            return nodes, embeddings, links, parent_embedding(embeddings, links)

        nodes, embeddings = state
        links = walk.first_links(row, nodes, context)
        state = nodes, embeddings, links, parent_embedding(embeddings, links)
        return jax.lax.fori_loop(0, num_nodes - 1, simulate, state)[:2]

    state = nodes, jax.tree.map(as_rows, embeddings)
    nodes, rows = for_each_row_sharing(grow, state, roots, model.constants, batch_size)
    return nodes, jax.tree.map(lambda x, like: x.reshape(like.shape), rows, embeddings)


def _is_used(variable: Any, jaxpr: Any) -> bool:
    return any(variable is v for equation in jaxpr.eqns for v in equation.invars)


def _largest_result(jaxpr: Any) -> int:
    return max((v.aval.size for e in equations(jaxpr) for v in e.outvars), default=0)


def _bytes(arrays: Sequence[Array]) -> int:
    return sum(x.nbytes for x in arrays)
