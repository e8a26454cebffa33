"""Returns and masks of one window of consecutive transitions.

All functions are for one unbatched window; lift them with `jax.vmap`. Time `t` counts from the
window's start, and transition `t` leads from state `t` to state `t + 1`. Only the *first* end in
the window matters: the transitions after it belong to another episode and are not read.
"""

import chex
import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.core.types import Array


class WindowEnds(struct.PyTreeNode):
    """Where the first episode of a window ends.

    Attributes:
      alive: `[L]` bool, whether the episode had not ended before state `t`.
      truncated_before: `[L]` bool, whether a time limit ended the episode before state `t`, so that
        nothing is known of the state.
      first_end: `[]` int32, the transition that ends the episode; `L` where none does.
    """

    alive: Array
    truncated_before: Array
    first_end: Array


def window_ends(discount_t: Array, truncated_t: Array) -> WindowEnds:
    """Finds the first end of a window.

    Args:
      discount_t: `[L]` 0 where transition `t` terminated the episode, 1 elsewhere.
      truncated_t: `[L]` bool, whether a time limit ended the episode at transition `t`.
    """
    chex.assert_rank([discount_t, truncated_t], 1)
    last_t = (discount_t == 0.0) | truncated_t
    length = last_t.shape[0]
    first_end = jnp.where(last_t.any(), jnp.argmax(last_t), length)
    alive = jnp.arange(length) <= first_end
    cut = truncated_t[jnp.minimum(first_end, length - 1)]
    return WindowEnds(alive, ~alive & cut, first_end)


def n_step_returns(
    reward_t: Array,
    discount_t: Array,
    truncated_t: Array,
    value_tp1: Array,
    *,
    td_steps: int,
    td_lambda: float = 1.0,
) -> Array:
    """The n-step TD(lambda) returns of the first states of a window of `L` transitions.

    For a start `u`, from its last transition `t = u + n - 1` backwards,
    `G_t = r_t + d_t ((1 - lambda) v_{t+1} + lambda G_{t+1})` with `G_{u+n} = v_{u+n}`; a truncated
    transition bootstraps at once, `G_t = r_t + d_t v_{t+1}` (Sutton and Barto 2018, equation 12.18
    with a horizon; MuZero, appendix E, for lambda = 1).

    Args:
      reward_t: `[L]` rewards.
      discount_t: `[L]` discounts: 0 where terminated, negative where the opponent moves next.
      truncated_t: `[L]` bool, whether a time limit ended the episode at the transition.
      value_tp1: `[L]` values of the states that the transitions lead to; at a truncation the value
        of the final observation.
      td_steps: n, at most `L`.
      td_lambda: lambda; 1 is the plain n-step return.

    Returns:
      `[L - n + 1]` returns. Returns past the window's first end mix episodes and must be masked.
    """
    chex.assert_rank([reward_t, discount_t, truncated_t, value_tp1], 1)
    chex.assert_equal_shape([reward_t, discount_t, truncated_t, value_tp1])
    num_starts = reward_t.shape[0] - td_steps + 1

    def backward(return_tp1: Array, offset: Array) -> tuple[Array, None]:
        reward, discount, truncated, value = (
            jax.lax.dynamic_slice_in_dim(x, offset, num_starts)
            for x in (reward_t, discount_t, truncated_t, value_tp1)
        )
        mixed = (1.0 - td_lambda) * value + td_lambda * return_tp1
        return reward + discount * jnp.where(truncated, value, mixed), None

    offsets = jnp.arange(td_steps)
    result, _ = jax.lax.scan(backward, value_tp1[td_steps - 1 :], offsets, reverse=True)
    return result


def lambda_returns(
    reward_t: Array,
    discount_t: Array,
    truncated_t: Array,
    value_tp1: Array,
    *,
    td_lambda: float | Array,
) -> Array:
    """The TD(lambda) returns of all `T` transitions of a rollout, over the ends of its episodes.

    `G_t = r_t + d_t ((1 - lambda) v_{t+1} + lambda G_{t+1})` from the last transition backwards;
    the last one and a truncated one bootstrap at once, `G_t = r_t + d_t v_{t+1}` (Sutton and Barto
    2018, equation 12.18).

    Args:
      reward_t: `[T]` rewards.
      discount_t: `[T]` discounts, 0 where terminated.
      truncated_t: `[T]` bool, whether a time limit ended the episode at the transition.
      value_tp1: `[T]` values of the states that the transitions lead to; at a truncation the value
        of the final observation.
      td_lambda: lambda.
    """
    chex.assert_rank([reward_t, discount_t, truncated_t, value_tp1], 1)
    chex.assert_equal_shape([reward_t, discount_t, truncated_t, value_tp1])

    def backward(return_tp1: Array, step: tuple[Array, ...]) -> tuple[Array, Array]:
        reward, discount, truncated, value = step
        mixed = (1.0 - td_lambda) * value + td_lambda * return_tp1
        found = reward + discount * jnp.where(truncated, value, mixed)
        return found, found

    steps = reward_t, discount_t, truncated_t, value_tp1
    returns: Array = jax.lax.scan(backward, value_tp1[-1], steps, reverse=True)[1]
    return returns
