"""From settings to the parts of a run, for whoever trains, evaluates, plays or measures."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax

from muzero_jax.agents.base import Agent
from muzero_jax.agents.factory import make_agent
from muzero_jax.config import ConfigError, ExperimentConfig, traced_settings
from muzero_jax.envs.base import Environment
from muzero_jax.envs.conformance import check_own_environment
from muzero_jax.envs.registry import make_environment
from muzero_jax.envs.wrappers import TimeLimit
from muzero_jax.training.checkpoint import restore_newest
from muzero_jax.training.data_parallel import Layout, make_layout, make_parallel_train
from muzero_jax.training.loop import Train, make_train
from muzero_jax.training.run_folder import CHECKPOINTS_FOLDER, load_config
from muzero_jax.training.shards import Shards
from muzero_jax.trust import module_of
from muzero_jax.types import PyTree


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of a run; nothing is compiled or allocated yet.

    Attributes:
      config: the settings.
      env: one environment, neither batched nor auto-resetting.
      agent: the learner.
      train: the loop's pure functions.
      layout: of a run of several shards; None of any other.
    """

    config: ExperimentConfig
    env: Environment
    agent: Agent
    train: Train
    layout: Layout | None = None


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


def build(config: ExperimentConfig, devices: Sequence[jax.Device] | None = None) -> Experiment:
    """Builds the parts of a run.

    Args:
      config: the settings.
      devices: that a run of several shards is spread over; as many of those that JAX finds as
        divide the shards evenly where None.

    Raises:
      ConfigError: a setting does not suit the environment, or the shards not the devices.
      EnvironmentCreationError: there is no such environment, or it cannot be made, or it is the
        user's own and breaks a rule of the protocol.
    """
    env = _make_env(config)
    agent = make_agent(config, env.spec)
    if config.training.num_shards == 1:
        return Experiment(config, env, agent, make_train(env, agent, config))
    layout = make_layout(config.training.num_shards, devices or jax.devices())
    # Every process must have its part in it.
    wanted = devices or (jax.devices() if jax.process_count() > 1 else layout.devices)
    if len(layout.devices) < len(wanted):
        raise ConfigError(
            f"training.num_shards ({config.training.num_shards}) cannot be divided among "
            f"{len(wanted)} devices."
        )

    def make_sharded_agent(shards: Shards) -> Agent:
        return make_agent(config, env.spec, average=shards.average)

    train = make_parallel_train(env, make_sharded_agent, config, layout)
    return Experiment(config, env, agent, train, layout)


def load_run(run_dir: Path) -> LoadedRun:
    """Reads a run folder's settings and agent; the replay stays on disk.

    Raises:
      InvalidRunError: it is not a run folder.
      NoCheckpointError: it holds no checkpoint that can be used.
      EnvironmentCreationError: its environment cannot be made, or is the user's own and breaks a
        rule of the protocol.
    """
    config = load_config(run_dir)
    env = _make_env(config)
    agent = make_agent(config, env.spec)
    key_shape = jax.eval_shape(jax.random.key, 0)
    shapes = jax.eval_shape(agent.init, key_shape, traced_settings(config))
    restored = restore_newest(run_dir / CHECKPOINTS_FOLDER, {"agent": shapes})
    return LoadedRun(config, env, agent, restored.groups["agent"], restored.step)


def _make_env(config: ExperimentConfig) -> Environment:
    """Makes the environment, and checks it before anything else where it is the user's own.

    An adapter's own time limit is replaced, not wrapped, so that it can be raised too.
    """
    name, limit = config.environment.name, config.environment.time_limit
    env = make_environment(name)
    if module_of(name):
        check_own_environment(env, name)
    if not limit:
        return env
    if isinstance(env, TimeLimit):
        return dataclasses.replace(env, max_steps=limit)
    return TimeLimit(env, limit)
