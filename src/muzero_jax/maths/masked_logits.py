"""Logits with which a network says that an action is impossible."""

import jax.numpy as jnp

from muzero_jax.core.types import Array

LOWEST_LOGIT = -1e4
"""A finite logit so low that its softmax beside any usual logit is 0 in every dtype."""


def finite_logits(logits: Array) -> Array:
    """`[..., A]` logits without -inf, so that a probability of 0 times its logarithm is 0.

    Networks mask actions with -inf or with the lowest number of a dtype. `LOWEST_LOGIT` has the
    same softmax as both, while -inf makes a cross-entropy and an entropy NaN. NaN and +inf are
    mistakes and are not changed.
    """
    return jnp.maximum(logits, LOWEST_LOGIT)
