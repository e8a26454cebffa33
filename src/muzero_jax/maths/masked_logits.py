"""Logits with which a network says that an action is impossible."""

import jax.numpy as jnp

from muzero_jax.core.types import Array

LOWEST_LOGIT = -1e4
"""The softmax of a logit so far below another one is 0 in every dtype, and the logit is finite."""


def finite_logits(logits: Array) -> Array:
    """`[..., A]` logits without -inf, so that a probability of 0 times its logarithm is 0.

    Networks mask actions with -inf or with the lowest number of a dtype. The softmax of both is the
    same as that of `LOWEST_LOGIT`, but -inf makes a cross-entropy and an entropy NaN. NaN and +inf
    are mistakes, and stay what they are.
    """
    return jnp.maximum(logits, LOWEST_LOGIT)
