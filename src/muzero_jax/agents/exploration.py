"""Exploration that every agent can do: now and then an action at random."""

import jax
import jax.numpy as jnp

from muzero_jax.core.types import Array, PRNGKey
from muzero_jax.envs.base import random_legal_action
from muzero_jax.maths.skipping import skip_unless


def sometimes_random(
    rng_key: PRNGKey, action: Array, legal_action_mask: Array, epsilon: Array | float
) -> Array:
    """Replaces each of `[B]` actions by a uniformly drawn legal one with probability `epsilon`.

    Args:
      rng_key: consumed.
      action: `[B]` int32.
      legal_action_mask: `[B, A]` bool.
      epsilon: `[]` in [0, 1].
    """

    def explore(rng_key: PRNGKey, action: Array, legal: Array, epsilon: Array) -> Array:
        choice_key, random_key = jax.random.split(rng_key)
        random_action = random_legal_action(random_key, legal).astype(action.dtype)
        is_random = jax.random.uniform(choice_key, action.shape) < epsilon
        return jnp.where(is_random, random_action, action)

    inputs = (rng_key, action, legal_action_mask, epsilon)
    changed: Array = skip_unless(epsilon > 0, explore, action, *inputs)
    return changed
