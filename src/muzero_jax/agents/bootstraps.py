"""The values that end the returns of replayed windows, and the returns that they end."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from muzero_jax.core.types import Array, Transition
from muzero_jax.maths.returns import WindowEnds, n_step_returns, window_ends
from muzero_jax.replay.buffer import WindowSpec

ValueFn = Callable[[Array, Array], Array]
"""Observations `[M, ...]` and their legal actions `[M, A]` to values `[M]`."""


def bootstrap_values(
    rows: Sequence[int],
    window: WindowSpec,
    transitions: Transition,
    stored: Array,
    value_fn: ValueFn,
) -> tuple[Array, Array]:
    """The values of states in windows, and of what follows their time limits.

    Args:
      rows: positions in the window whose values are worked out; the window reads their
        observations.
      window: the window.
      transitions: windows as `Batch.transitions`.
      stored: `[B, L]` the values of the other positions.
      value_fn: the network.

    Returns:
      `[B, L]` values of the positions, and `[B]` values of the final observations.
    """
    batch_size, num_actions = len(stored), transitions.legal_action_mask.shape[-1]
    final_value = jnp.zeros(batch_size)
    if transitions.final_observation is not None:
        # Truncations are rare; most batches can do without these values. Which actions are legal
        # after a time limit was not stored.
        final_value = jax.lax.cond(
            transitions.truncated.any(),
            lambda seen: value_fn(seen, jnp.ones((batch_size, num_actions), bool)),
            lambda _: final_value,
            transitions.final_observation,
        )
    if not rows:
        return stored, final_value
    position = jnp.array([window.observation_offsets.index(row) for row in rows])
    at_rows = jnp.array(rows)
    observation = transitions.observation[:, position]
    legal = transitions.legal_action_mask[:, at_rows].reshape((-1, num_actions))
    fresh = value_fn(observation.reshape((-1, *observation.shape[2:])), legal)
    return stored.at[:, at_rows].set(fresh.reshape((batch_size, -1))), final_value


def bootstrapped_returns(
    transitions: Transition,
    row_values: Array,
    final_value: Array,
    ends: WindowEnds,
    discount: Array | float,
    *,
    td_steps: int,
    td_lambda: float = 1.0,
) -> Array:
    """`[B, L - n]` returns of n steps; those past a window's first end must be masked.

    Args:
      transitions: windows `[B, L, ...]`.
      row_values: `[B, L]` values of the positions.
      final_value: `[B]` values of the final observations.
      ends: where the windows end, see `ends_of_windows`.
      discount: `[]` of one step, negative where players alternate.
      td_steps: n.
      td_lambda: see `n_step_returns`.
    """
    reward, done = transitions.reward[:, :-1], transitions.truncated[:, :-1]
    is_cut = (jnp.arange(reward.shape[1])[None] == ends.first_end[:, None]) & done
    value_tp1 = jnp.where(is_cut, final_value[:, None], row_values[:, 1:])
    returns = functools.partial(n_step_returns, td_steps=td_steps, td_lambda=td_lambda)
    factor = discount * transitions.discount[:, :-1]
    found: Array = jax.vmap(returns)(reward, factor, done, value_tp1)
    return found


def ends_of_windows(transitions: Transition) -> WindowEnds:
    """Where the first episodes of windows `[B, L, ...]` end, `[B, ...]`."""
    ends: WindowEnds = jax.vmap(window_ends)(transitions.discount, transitions.truncated)
    return ends
