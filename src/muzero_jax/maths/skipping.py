"""Leaves out work that no member of a `vmap` wants."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from muzero_jax.core.types import Array, PyTree


def skip_unless(
    is_wanted: Array | bool, work: Callable[..., PyTree], instead: PyTree, *args: PyTree
) -> PyTree:
    """Returns `work(*args)` if any member of a `vmap` wants it.

    A conditional under `vmap` does the work for every member and then selects. Here the work is
    left out if no member wants it, and done for all members otherwise. So a member that does not
    want it may get either `work(*args)` or `instead`.

    Args:
      is_wanted: `[]` bool, whether the result is wanted.
      work: function that closes over nothing traced, and does not communicate between devices.
      instead: tree with the shapes and types of the result of `work`.
      *args: arguments of `work`.
    """
    run = jax.custom_batching.custom_vmap(
        lambda is_wanted, instead, args: jax.lax.cond(
            is_wanted, lambda: work(*args), lambda: instead
        )
    )

    def for_members(
        num_members: int,
        is_batched: Sequence[PyTree],
        is_wanted: Array,
        instead: PyTree,
        args: Sequence[PyTree],
    ) -> tuple[PyTree, PyTree]:
        def wide(x: Array, batched: bool) -> Array:
            return x if batched else jnp.broadcast_to(x, (num_members, *x.shape))

        axes = jax.tree.map(lambda batched: 0 if batched else None, is_batched[2])
        for_all = jax.vmap(lambda args: work(*args), in_axes=(axes,), axis_size=num_members)
        instead = jax.tree.map(wide, instead, is_batched[1])
        output = skip_unless(is_wanted.any(), lambda *args: for_all(args), instead, *args)
        return output, jax.tree.map(lambda _: True, output)

    run.def_vmap(for_members)
    return run(*jax.tree.map(jnp.asarray, (is_wanted, instead, args)))
