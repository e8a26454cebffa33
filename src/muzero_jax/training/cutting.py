"""Rollouts that no episode outlives: cut where they end, as by samplers that collect anew."""

import jax
import jax.numpy as jnp

from muzero_jax.core.types import Array, Transition


def cut_at_end(transitions: Transition) -> Transition:
    """Marks the last row of a rollout `[T, num_envs]` as truncated, unless it terminated."""
    cut = transitions.discount[-1] != 0.0
    return transitions.replace(truncated=transitions.truncated.at[-1].set(cut))


def mean_discounted_return(transitions: Transition, discount: Array | float) -> Array:
    """`[]` the mean of the discounted returns of all episodes of a rollout.

    Those that were cut off or reached a time limit count with what they had: a lower bound, which
    for rewards at the end is 0.

    Args:
      transitions: `[T, num_envs]`, all of whose episodes begin and end in the rollout.
      discount: of one step.
    """
    last = (transitions.discount == 0.0) | transitions.truncated

    def backward(return_tp1: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, ends = step
        return_t = reward + discount * jnp.where(ends, 0.0, return_tp1)
        return return_t, return_t

    start = jnp.zeros(last.shape[1])
    _, returns = jax.lax.scan(backward, start, (transitions.reward, last), reverse=True)
    begins = jnp.concatenate([jnp.ones_like(last[:1]), last[:-1]])
    return jnp.where(begins, returns, 0.0).sum() / begins.sum()
