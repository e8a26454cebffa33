"""Rows of one pytree or of another, as a mask says."""

import jax
import jax.numpy as jnp

from muzero_jax.core.types import Array, PyTree


def choose_rows(wanted: Array, tree: PyTree, otherwise: PyTree) -> PyTree:
    """Rows of one pytree where they are wanted, and of another elsewhere.

    Args:
      wanted: `[B]` bool.
      tree: `[B, ...]` what is taken where `wanted` holds.
      otherwise: `[B, ...]` what is taken elsewhere, of the structure of `tree`.
    """

    def choose(x: Array, other: Array) -> Array:
        return jnp.where(wanted.reshape(-1, *[1] * (x.ndim - 1)), x, other)

    return jax.tree.map(choose, tree, otherwise)
