"""The state of a run whose environment gets another time limit, or its first, or none."""

from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.envs.wrappers import TimeLimitState
from muzero_jax.training.train_state import TrainState


def with_changed_time_limit(state: TrainState, shapes: TrainState) -> TrainState:
    """Gives a state the structure that it has under another time limit.

    Episodes that are under way keep their lengths. In the replay the final observations of stored
    steps are zeros where they were not stored: none of those steps was truncated, so none is read.

    Args:
      state: state of the run so far.
      shapes: shapes of its state under the new limit.
    """
    inner, wanted = state.env_state.env_state, shapes.env_state.env_state
    if isinstance(inner, TimeLimitState) and not isinstance(wanted, TimeLimitState):
        inner = inner.env_state
    elif isinstance(wanted, TimeLimitState) and not isinstance(inner, TimeLimitState):
        # A copy, since a chunk is given every array of the state to write over.
        inner = TimeLimitState(env_state=inner, num_steps=jnp.copy(state.episode_length))
    transitions, needed = state.replay.transitions, shapes.replay.transitions.final_observation
    final = None
    if needed is not None:
        found = transitions.final_observation
        final = jax.tree.map(_zeros, needed) if found is None else found
    changed: TrainState = state.replace(
        env_state=state.env_state.replace(env_state=inner),
        replay=state.replay.replace(transitions=transitions.replace(final_observation=final)),
    )
    return changed


def _zeros(shape: Any) -> jax.Array:
    return jnp.zeros(shape.shape, shape.dtype)
