"""From settings to the parts of a run, for whoever trains, evaluates, plays or measures."""

import dataclasses
from pathlib import Path

import jax

from muzero_jax.agents.base import Agent
from muzero_jax.agents.muzero import make_muzero
from muzero_jax.config import ExperimentConfig, traced_settings
from muzero_jax.envs.base import Environment
from muzero_jax.envs.registry import make_environment
from muzero_jax.envs.wrappers import TimeLimit
from muzero_jax.training.checkpoint import restore_newest
from muzero_jax.training.loop import Train, make_train
from muzero_jax.training.run_folder import CHECKPOINTS_FOLDER, load_config
from muzero_jax.types import PyTree


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of a run; nothing is compiled or allocated yet.

    Attributes:
      config: the settings.
      env: one environment, neither batched nor auto-resetting.
      agent: the learner.
      train: the loop's pure functions.
    """

    config: ExperimentConfig
    env: Environment
    agent: Agent
    train: Train


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """What a run has learned.

    Attributes:
      config: its settings.
      env: its environment.
      agent: its learner.
      agent_state: of the newest checkpoint that is whole.
      num_env_steps: environment steps it was trained for.
    """

    config: ExperimentConfig
    env: Environment
    agent: Agent
    agent_state: PyTree
    num_env_steps: int


def build(config: ExperimentConfig) -> Experiment:
    """Builds the parts of a run.

    Raises:
      ConfigError: a setting does not suit the environment.
      EnvironmentCreationError: there is no such environment, or it cannot be made.
    """
    env = _make_env(config)
    agent = make_muzero(config, env.spec)
    return Experiment(config, env, agent, make_train(env, agent, config))


def load_run(run_dir: Path) -> LoadedRun:
    """Reads a run folder's settings and agent; the replay stays on disk.

    Raises:
      InvalidRunError: it is not a run folder.
      NoCheckpointError: it holds no checkpoint that can be used.
    """
    config = load_config(run_dir)
    env = _make_env(config)
    agent = make_muzero(config, env.spec)
    key_shape = jax.eval_shape(jax.random.key, 0)
    shapes = jax.eval_shape(agent.init, key_shape, traced_settings(config))
    restored = restore_newest(run_dir / CHECKPOINTS_FOLDER, {"agent": shapes})
    return LoadedRun(config, env, agent, restored.groups["agent"], restored.step)


def _make_env(config: ExperimentConfig) -> Environment:
    """An adapter's own time limit is replaced, not wrapped, so that it can be raised too."""
    env, limit = make_environment(config.environment.name), config.environment.time_limit
    if not limit:
        return env
    if isinstance(env, TimeLimit):
        return dataclasses.replace(env, max_steps=limit)
    return TimeLimit(env, limit)
