"""The state of a run whose environment gets another time limit, or its first, or none."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.errors import CheckpointMismatchError
from muzero_jax.core.keys import run_keys
from muzero_jax.envs.wrappers import TimeLimitState
from muzero_jax.runs.build import build
from muzero_jax.runs.run_start import Start, find_start
from muzero_jax.settings import apply_settings
from muzero_jax.training.train_state import TrainState


def check_limit_can_go(
    run_dir: Path, config: ExperimentConfig, changed: ExperimentConfig, shapes: TrainState
) -> None:
    """Refuses to take away the time limit of a run that needs it to learn from stored steps.

    The steps at which the limit cut an episode stay in the replay, and targets are made from the
    observation after them, which is not stored without a limit.

    Args:
      run_dir: the run folder, for the message.
      config: settings of the run so far.
      changed: settings with which it goes on.
      shapes: shapes of the run's state under the changed settings.

    Raises:
      ConfigError: the limit is taken away, and nothing else makes the run store what it needs.
    """
    before, after = config.environment.time_limit, changed.environment.time_limit
    if before and not after and shapes.replay.transitions.final_observation is None:
        raise ConfigError(
            "environment.time_limit can be changed but not taken away when a run is continued: "
            f"{run_dir} has {before}, {config.environment.name} has no limit of its own, and the "
            "replay holds episodes that were cut."
        )


def find_start_under_any_limit(
    run_dir: Path,
    before: ExperimentConfig,
    config: ExperimentConfig,
    shapes: TrainState,
    restart: bool = False,
) -> Start:
    """Reads the newest checkpoint, which may have been made before the time limit changed.

    The settings do not tell: a process may have died after it wrote them, before it saved again.

    Args:
      run_dir: the run folder.
      before: settings of the run so far.
      config: settings with which it goes on.
      shapes: shapes of the run's state under those.
      restart: see `find_start`.

    Raises:
      RunError: see `find_start`.
    """
    try:
        return find_start(run_dir, before, shapes, restart=restart)
    except CheckpointMismatchError:
        limit = 0 if config.environment.time_limit else 1
        other = build(apply_settings(config, {"environment.time_limit": limit}))
        other_shapes = jax.eval_shape(other.train.init, run_keys(0)[0])
        with contextlib.suppress(CheckpointMismatchError):
            start = find_start(run_dir, before, other_shapes, restart=restart)
            if start.state is None:
                return start
            return dataclasses.replace(start, state=with_changed_time_limit(start.state, shapes))
        raise


def with_changed_time_limit(state: TrainState, shapes: TrainState) -> TrainState:
    """Gives a state the structure that it has under another time limit.

    Episodes that are under way keep their lengths. In the replay the final observations of stored
    steps are zeros where they were not stored: none of those steps was truncated, so none is read.

    Args:
      state: state of the run so far.
      shapes: shapes of its state under the new limit.

    Raises:
      CheckpointMismatchError: final observations are stored, and there is no place for them.
    """
    inner, wanted = state.collector.env_state.env_state, shapes.collector.env_state.env_state
    if isinstance(inner, TimeLimitState) and not isinstance(wanted, TimeLimitState):
        inner = inner.env_state
    elif isinstance(wanted, TimeLimitState) and not isinstance(inner, TimeLimitState):
        # A copy, since a chunk is given every array of the state to write over.
        inner = TimeLimitState(env_state=inner, num_steps=jnp.copy(state.collector.episode_step))
    transitions, needed = state.replay.transitions, shapes.replay.transitions.final_observation
    final = transitions.final_observation
    if final is not None and needed is None:
        raise CheckpointMismatchError("the replay holds episodes that a time limit has cut.")
    if final is None and needed is not None:
        final = jax.tree.map(_zeros, needed)
    changed: TrainState = state.replace(
        collector=state.collector.replace(
            env_state=state.collector.env_state.replace(env_state=inner)
        ),
        replay=state.replay.replace(transitions=transitions.replace(final_observation=final)),
    )
    return changed


def _zeros(shape: Any) -> jax.Array:
    return jnp.zeros(shape.shape, shape.dtype)
