"""Work that is left out where nobody asks for it."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from muzero_jax.core.types import Array, PyTree


def skip_unless(
    is_wanted: Array | bool, work: Callable[..., PyTree], instead: PyTree, *args: PyTree
) -> PyTree:
    """`work(*args)` where it is wanted; elsewhere that, or `instead`.

    A conditional under `vmap` does the work for every member and then selects. Here it is left out
    if no member wants it, and otherwise done for all: a caller must not mind which of the two it
    gets where it wants none.

    Args:
      is_wanted: `[]` bool.
      work: closes over nothing that is traced, and does not communicate between devices.
      instead: a tree of the shapes and types that `work` returns.
      args: of `work`.
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
