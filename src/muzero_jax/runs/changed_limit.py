"""A run that goes on under another time limit: its saved state gets the structure it needs now."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.errors import CheckpointMismatchError
from muzero_jax.core.types import PyTree
from muzero_jax.envs.wrappers import TimeLimitState
from muzero_jax.replay.buffer import ReplayState
from muzero_jax.runs.run_start import Start, find_start
from muzero_jax.training.train_state import TrainState


def find_start_under_any_limit(
    run_dir: Path,
    config: ExperimentConfig,
    shapes: TrainState,
    other_shapes: Callable[[], TrainState],
    restart: bool = False,
) -> Start:
    """Reads the newest checkpoint, which may have been made before the time limit changed.

    The settings do not tell whether it was: a process may have died after it had written changed
    settings and before it saved again.

    Args:
      run_dir: run folder.
      config: settings with which the run goes on.
      shapes: shapes of the run's state under the settings with which it goes on.
      other_shapes: function that makes the shapes with a time limit if these settings have none,
        and without one if they have one.
      restart: whether a run that has lost its checkpoints starts anew.

    Raises:
      RunError: see `find_start`.
    """
    try:
        return find_start(run_dir, config, shapes, restart=restart)
    except CheckpointMismatchError:
        with contextlib.suppress(CheckpointMismatchError):
            start = find_start(run_dir, config, other_shapes(), restart=restart)
            if start.state is None:
                return start
            return dataclasses.replace(start, state=_under_limit(start.state, shapes))
        raise


def check_limit_can_go(
    run_dir: Path, config: ExperimentConfig, changed: ExperimentConfig, shapes: TrainState
) -> None:
    """Refuses to take away the time limit of a run that needs it to learn from stored steps.

    Steps at which the limit cut an episode stay in the replay. Their targets are made from the
    final observations, which are not stored without a limit.

    Args:
      run_dir: run folder, for the message.
      config: settings of the run so far.
      changed: settings with which the run goes on.
      shapes: shapes of the run's state under the changed settings.

    Raises:
      ConfigError: the limit is taken away, and final observations would not be stored any more.
    """
    before, after = config.environment.time_limit, changed.environment.time_limit
    if not before or after or not isinstance(shapes.replay, ReplayState):
        return
    if shapes.replay.transitions.final_observation is None:
        raise ConfigError(
            "environment.time_limit can be changed but not taken away when a run is continued: "
            f"{run_dir} has {before}, {config.environment.name} has no limit of its own, and the "
            "replay holds episodes that were cut."
        )


def _under_limit(state: TrainState, shapes: TrainState) -> TrainState:
    """Gives a state the structure of `shapes`; episodes that are under way keep their lengths."""
    collector = state.collector
    inner, wanted = collector.env_state.env_state, shapes.collector.env_state.env_state
    if isinstance(inner, TimeLimitState) and not isinstance(wanted, TimeLimitState):
        inner = inner.env_state
    elif isinstance(wanted, TimeLimitState) and not isinstance(inner, TimeLimitState):
        # The length is copied, because a chunk overwrites every array of the state.
        inner = TimeLimitState(env_state=inner, num_steps=jnp.copy(collector.episode_step))
    env_state = collector.env_state.replace(env_state=inner)
    changed: TrainState = state.replace(
        collector=collector.replace(env_state=env_state), replay=_with_final(state, shapes)
    )
    return changed


def _with_final(state: TrainState, shapes: TrainState) -> PyTree:
    """The replay of a state, with or without final observations as in `shapes`.

    New ones are zeros, which nobody reads, because none of the stored steps was truncated.
    """
    if not isinstance(state.replay, ReplayState):
        return state.replay
    transitions, needed = state.replay.transitions, shapes.replay.transitions.final_observation
    final = transitions.final_observation
    if final is not None and needed is None:
        raise CheckpointMismatchError("the replay holds episodes that a time limit has cut.")
    if final is None and needed is not None:
        final = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), needed)
    return state.replay.replace(transitions=transitions.replace(final_observation=final))
