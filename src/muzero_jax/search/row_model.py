"""Searches of one root after the other, the model included, in one kernel.

A model of a few operations on a few numbers, such as a table, costs less than starting the kernels
that would ask it about all roots at once. Here it is asked about one node at a time.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mctx

from muzero_jax.core.types import Array, Params, PRNGKey, PyTree
from muzero_jax.search.backward import backward
from muzero_jax.search.nodes import Leaf, Nodes, Roots, as_rows, first_nodes, new_nodes, with_room
from muzero_jax.search.one_kernel import for_each_row, put_row, take_row
from muzero_jax.search.rules import TreeSpec
from muzero_jax.search.simulate import Context, simulate


@dataclasses.dataclass(frozen=True)
class NodeModel:
    """A `recurrent_fn` that the engine may ask about one node at a time, inside its kernel.

    Attributes:
      function: the `recurrent_fn`. Its answer about a node depends on the node and the parameters
        alone, not on the key, nor on the row of the batch or the size of the batch.
    """

    function: Callable[[Params, PRNGKey, Array, PyTree], tuple[mctx.RecurrentFnOutput, PyTree]]

    def __call__(
        self, params: Params, rng_key: PRNGKey, action: Array, embedding: PyTree
    ) -> tuple[mctx.RecurrentFnOutput, PyTree]:
        """Answers about a batch of nodes, as mctx asks."""
        return self.function(params, rng_key, action, embedding)


def _bind_parameters(
    model: NodeModel, params: Params, rng_key: PRNGKey, embedding: PyTree
) -> tuple[Callable[..., tuple[mctx.RecurrentFnOutput, PyTree]], Sequence[Array]]:
    """Splits a model and its parameters into a function and the arrays that the function reads.

    The function takes the arrays, an action `[]` and an embedding `[...]`, and its answer has an
    axis of one node. Only the shapes and types of `embedding [B, ...]` are read. The `rng_key` is
    not consumed.
    """

    def ask_about(action: Array, embedding: PyTree) -> tuple[mctx.RecurrentFnOutput, PyTree]:
        return model(params, rng_key, action, embedding)

    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), embedding)
    action = jax.ShapeDtypeStruct((1,), jnp.int32)
    traced, shape = jax.make_jaxpr(ask_about, return_shape=True)(action, one)

    def ask(constants: Sequence[Array], action: Array, embedding: PyTree) -> Any:
        inputs = action[None], *(x[None] for x in jax.tree.leaves(embedding))
        outputs = jax.core.eval_jaxpr(traced.jaxpr, constants, *inputs)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return ask, traced.consts


def grow_trees(
    spec: TreeSpec,
    model: NodeModel,
    params: Params,
    rng_key: PRNGKey,
    root: mctx.RootFnOutput,
    roots: Roots,
) -> tuple[Nodes, PyTree]:
    """Runs all simulations of all roots.

    Args:
      spec: rules and sizes of the trees.
      model: the model, which is asked about each new node.
      params: parameters of the model; the kernel copies the arrays that the model reads.
      rng_key: a key for the model, which does not read it; not consumed.
      root: the network's output at each root.
      roots: what only the rule at a root may read.

    Returns:
      The nodes, and the embeddings `[B, N + 1, ...]`.
    """
    ask, constants = _bind_parameters(model, params, rng_key, root.embedding)
    num_nodes, batch_size = spec.num_nodes, len(root.value)
    nodes = first_nodes(root, spec)
    embeddings = jax.tree.map(lambda x: with_room(x, num_nodes), root.embedding)

    def grow(row: Array, state: PyTree, roots: Roots, constants: Sequence[Array]) -> PyTree:
        context = Context(roots, embeddings=None, keys=None)

        def parent_embedding(embeddings: PyTree, links: Array) -> PyTree:
            return jax.tree.map(lambda x: take_row(x, row * num_nodes + links[0]), embeddings)

        def grow_once(simulation: Array, state: PyTree) -> PyTree:
            nodes, embeddings, links, embedding = state
            step, embedding = ask(constants, links[1], embedding)
            leaf = Leaf(links[None])
            new = new_nodes(spec, step, leaf, leaf.numbers(simulation + 1))
            new = jax.tree.map(lambda x: x[0], new)
            index = row * num_nodes + new.links[0]
            embeddings = jax.tree.map(lambda x, e: put_row(x, index, e), embeddings, embedding)
            nodes, root = backward(spec, row, nodes, new)
            links = simulate(spec, row, nodes, context, root)
            # This is read after the writing; if it were read before, XLA would copy all embeddings.
            return nodes, embeddings, links, parent_embedding(embeddings, links)

        nodes, embeddings = state
        links = simulate(spec, row, nodes, context)
        state = nodes, embeddings, links, parent_embedding(embeddings, links)
        return jax.lax.fori_loop(0, num_nodes - 1, grow_once, state)[:2]

    state = nodes, jax.tree.map(as_rows, embeddings)
    nodes, rows = for_each_row(grow, state, roots, batch_size, (constants,))
    return nodes, jax.tree.map(lambda x, like: x.reshape(like.shape), rows, embeddings)
