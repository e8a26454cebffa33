"""Where a process takes a run up: at its newest checkpoint, or at its beginning.

A checkpoint also holds the best agent of the evaluations before it. So a run that is taken up goes
on with the best agent of that moment, whatever came after it. If the time limit of the environment
has changed since the checkpoint, the state that was saved is given the structure that it needs now.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.checkpoints.checkpoint import Restored, restore_newest
from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps, set_aside
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.errors import (
    CheckpointMismatchError,
    ConfigError,
    InvalidRunError,
    NoCheckpointError,
)
from muzero_jax.core.file_names import CHECKPOINTS_FOLDER
from muzero_jax.core.keys import from_numbers, is_key, to_numbers
from muzero_jax.core.types import PyTree
from muzero_jax.envs.wrappers import TimeLimitState
from muzero_jax.replay.buffer import ReplayState
from muzero_jax.runs.continuing import check_not_lost
from muzero_jax.tracking.tracker import Position
from muzero_jax.training.train_state import TrainState

# The name of the best agent's group in a checkpoint.
BEST_GROUP = "best"


@dataclasses.dataclass
class Counters:
    """How far a run is; saved with every checkpoint, so that times add up over resumes.

    Attributes:
      env_steps: environment steps so far.
      num_updates: optimiser steps so far.
      train_seconds: wall-clock of the compiled chunks.
      compile_seconds: wall-clock of tracing and compiling the chunks.
      total_seconds: wall-clock of everything, from the building of the run's parts.
    """

    env_steps: int = 0
    num_updates: int = 0
    train_seconds: float = 0.0
    compile_seconds: float = 0.0
    total_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class BestAgent:
    """The agent whose evaluation had the highest mean score; the earliest one of equal agents.

    Attributes:
      agent: state of the agent, on the host.
      env_steps: environment steps for which the agent was trained.
      score_mean: mean score of the agent's evaluation.
    """

    agent: PyTree
    env_steps: int
    score_mean: float

    @classmethod
    def copied(cls, agent: PyTree, env_steps: int, score_mean: float) -> "BestAgent":
        """Copies an agent's state, whose arrays are about to be overwritten, to the host.

        Args:
          agent: state of the agent.
          env_steps: environment steps for which the agent was trained.
          score_mean: mean score of the agent's evaluation.
        """
        return cls(jax.tree.map(_copy_to_host, agent), env_steps, score_mean)

    @classmethod
    def restored(cls, checkpoint: Restored) -> "BestAgent | None":
        """The best agent that a checkpoint holds; None if it holds none."""
        record = checkpoint.record.get(BEST_GROUP)
        return None if record is None else cls(checkpoint.groups[BEST_GROUP], **record)

    def is_behind(self, score_mean: float) -> bool:
        """Whether another agent's mean score is better; every score is better than NaN."""
        return score_mean > self.score_mean or math.isnan(self.score_mean)

    def record(self) -> dict[str, Any]:
        """The entry in a checkpoint's record that `restored` reads."""
        return {"env_steps": self.env_steps, "score_mean": self.score_mean}


def _copy_to_host(x: Any) -> Any:
    data = np.array(to_numbers(x))
    return from_numbers(data, x) if is_key(x) else data


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a process takes a run up.

    Attributes:
      state: training state in the checkpoint; None at the beginning of a run.
      counters: counters in the checkpoint; zeros at the beginning.
      position: lengths of the report files at the checkpoint.
      best: best agent by the evaluations before the checkpoint; None if there was none.
    """

    state: TrainState | None
    counters: Counters
    position: Position
    best: BestAgent | None = None

    @classmethod
    def fresh(cls) -> "Start":
        """The beginning of a run."""
        return cls(None, Counters(), Position())


def find_start(
    run_dir: Path,
    config: ExperimentConfig,
    shapes: TrainState,
    at_most: int | None = None,
    restart: bool = False,
) -> Start:
    """Reads the newest usable checkpoint of a run; a run that never had any starts anew.

    Args:
      run_dir: run folder.
      config: settings of the run.
      shapes: shapes of the run's state.
      at_most: most environment steps that the checkpoint may have; None for any number.
      restart: whether a run that has lost its checkpoints starts anew as well.

    Raises:
      LostCheckpointsError: the run had checkpoints, and has none now; see `check_not_lost`.
      InvalidRunError: `restart` is asked for, but there is a checkpoint that can be used.
      NoCheckpointError: there are checkpoints, but none can be used.
      CheckpointMismatchError: the newest checkpoint holds arrays of other shapes.
    """
    folder = run_dir / CHECKPOINTS_FOLDER
    all_steps = checkpoint_steps(folder)
    if not all_steps:
        check_not_lost(run_dir, config, restart)
    if not [step for step in all_steps if at_most is None or step <= at_most]:
        return Start.fresh()
    try:
        restored = restore_newest(
            folder, split_state(shapes), at_most, optional={BEST_GROUP: shapes.agent}
        )
    except NoCheckpointError:
        if not restart:
            raise
        set_aside(folder, all_steps)
        return Start.fresh()
    if restart:
        raise InvalidRunError(
            f"--restart is for a run whose checkpoints are gone or damaged; without it {run_dir} "
            f"goes on from checkpoint {restored.step}."
        )
    set_aside(folder, restored.unusable)
    groups = restored.groups
    return Start(
        state=groups["loop"].replace(agent=groups["agent"], replay=groups["replay"]),
        counters=Counters(**restored.record["counters"]),
        position=Position(**restored.record["position"]),
        best=BestAgent.restored(restored),
    )


def split_state(state: TrainState) -> dict[str, PyTree]:
    """The groups of a checkpoint: the agent, which others read too, apart from the large replay."""
    rest = state.replace(agent=None, replay=None)
    return {"agent": state.agent, "replay": state.replay, "loop": rest}


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
      config: settings of the run so far.
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
            return dataclasses.replace(start, state=_with_changed_limit(start.state, shapes))
        raise


def _with_changed_limit(state: TrainState, shapes: TrainState) -> TrainState:
    """Gives a state the structure of `shapes`, which it has under another time limit.

    Episodes that are under way keep their lengths. If the replay holds no final observations, they
    become zeros, which nobody reads, because none of the stored steps was truncated.
    """
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
    """The replay of a state, with or without final observations as in `shapes`."""
    if not _has_replay(state):
        return state.replay
    transitions, needed = state.replay.transitions, shapes.replay.transitions.final_observation
    final = transitions.final_observation
    if final is not None and needed is None:
        raise CheckpointMismatchError("the replay holds episodes that a time limit has cut.")
    if final is None and needed is not None:
        final = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), needed)
    return state.replay.replace(transitions=transitions.replace(final_observation=final))


def _has_replay(state: TrainState) -> bool:
    """Whether the agent of a state learns from a replay."""
    return isinstance(state.replay, ReplayState)


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
    is_taken_away = before and not after and _has_replay(shapes)
    if is_taken_away and shapes.replay.transitions.final_observation is None:
        raise ConfigError(
            "environment.time_limit can be changed but not taken away when a run is continued: "
            f"{run_dir} has {before}, {config.environment.name} has no limit of its own, and the "
            "replay holds episodes that were cut."
        )
