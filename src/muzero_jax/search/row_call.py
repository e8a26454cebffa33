"""A call on a batch of rows that do not know each other, under `jax.vmap` and on a mesh.

Loops over rows do not survive `jax.vmap`, which would run all members' loops in lockstep and select
between whole states at every step, and a foreign function knows nothing of members. Rows are
independent, so that members of a `vmap` become more rows instead, and the devices of a mesh each
take a part of them.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from muzero_jax.core.types import Array, PyTree
from muzero_jax.search.spread_rows import spread_rows


@dataclasses.dataclass(frozen=True)
class RowCall:
    """`run` for the rows of one member of a `vmap`, or of several, one after another.

    Attributes:
      run: from the number of rows, `state`, `(inputs, owner)` and `shared` to the next state.
        `state` and `inputs` are arrays whose leading axis is the number of rows or a multiple, row
        after row; `owner` says for each row which of the `shared` arrays is its member's, by a
        number along their leading axis, or is None where nothing is shared.
      num_rows: number of rows, static.
    """

    run: Callable[[int, PyTree, PyTree, PyTree], PyTree]
    num_rows: int

    def __call__(self, state: PyTree, inputs: PyTree, shared: PyTree = None) -> PyTree:
        """The next state; arrays of `shared` belong to all rows."""
        owner = jnp.zeros(self.num_rows, jnp.int32) if jax.tree.leaves(shared) else None
        return self._run(state, (inputs, owner), jax.tree.map(lambda x: x[None], shared))

    def _run(self, state: PyTree, inputs: PyTree, shared: PyTree) -> PyTree:
        run = jax.custom_batching.custom_vmap(
            lambda *args: spread_rows(self.run, self.num_rows, *args)
        )
        run.def_vmap(self._members_become_rows)
        return run(state, inputs, shared)

    def _members_become_rows(
        self, num_members: int, is_batched: Sequence[PyTree], *args: PyTree
    ) -> tuple[PyTree, PyTree]:
        """The rule of `vmap`: members' rows one after another, by the same call."""

        def flat(x: Array, batched: bool) -> Array:
            x = x if batched else jnp.broadcast_to(x, (num_members, *x.shape))
            return x.reshape((-1, *x.shape[2:]))

        state, (inputs, owner) = (
            jax.tree.map(flat, tree, batched)
            for tree, batched in zip(args[:2], is_batched[:2], strict=True)
        )
        shared, is_own = args[2], is_batched[2]
        if any(jax.tree.leaves(is_own)):
            shared = jax.tree.map(flat, shared, is_own)
            num_shared = len(jax.tree.leaves(shared)[0]) // num_members
            owner += jnp.repeat(jnp.arange(num_members) * num_shared, self.num_rows)
        call = dataclasses.replace(self, num_rows=num_members * self.num_rows)
        output = call._run(state, (inputs, owner), shared)
        output = jax.tree.map(lambda x: x.reshape((num_members, -1, *x.shape[1:])), output)
        return output, jax.tree.map(lambda _: True, output)
