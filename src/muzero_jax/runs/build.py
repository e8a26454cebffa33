"""From settings to the parts of a run, for whoever trains, evaluates, plays or measures."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax

from muzero_jax.agents.base import Agent
from muzero_jax.checkpoints.checkpoint import Restored, restore
from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps, describe_steps
from muzero_jax.config import ConfigError, ExperimentConfig, traced_settings
from muzero_jax.core import user_code
from muzero_jax.core.errors import CheckpointMismatchError, InvalidRunError
from muzero_jax.core.file_names import CHECKPOINTS_FOLDER
from muzero_jax.core.trust import module_of
from muzero_jax.core.types import PyTree
from muzero_jax.envs.base import Environment, EnvironmentSpec
from muzero_jax.envs.conformance import check_own_environment
from muzero_jax.envs.registry import make_environment, observers_of
from muzero_jax.envs.wrappers import TimeLimit
from muzero_jax.replay.buffer import ReplayState
from muzero_jax.runs.run_folder import load_config, read_result
from muzero_jax.runs.run_start import BEST_GROUP, BestAgent
from muzero_jax.settings import apply_settings
from muzero_jax.training.agent_checks import check_agent
from muzero_jax.training.data_parallel import Layout, make_layout, make_parallel_train
from muzero_jax.training.evaluation import Observer
from muzero_jax.training.loop import ChangeCollect, Train, make_agent, make_train


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of a run; nothing is compiled or allocated yet.

    Attributes:
      config: the settings.
      env: one environment, neither batched nor auto-resetting.
      agent: the learner.
      train: the loop's pure functions.
      observers: what an evaluation measures beside the score.
      layout: where the shards of a run lie; None for a run of one shard.
    """

    config: ExperimentConfig
    env: Environment
    agent: Agent
    train: Train
    observers: tuple[Observer, ...] = ()
    layout: Layout | None = None


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """What a run has learned: an agent's state, and the steps for which it was trained."""

    config: ExperimentConfig
    env: Environment
    agent: Agent
    agent_state: PyTree
    num_env_steps: int


def build(
    config: ExperimentConfig,
    devices: Sequence[jax.Device] | None = None,
    change_collect: ChangeCollect = lambda collect: collect,
) -> Experiment:
    """Builds the parts of a run.

    Args:
      config: the settings.
      devices: the devices that a run of several shards is spread over; where None, as many of those
        that JAX finds as divide the shards evenly.
      change_collect: gives another way of collecting, of a run of one shard.

    Raises:
      ConfigError: a setting does not suit the environment, or the shards not the devices.
      EnvironmentCreationError: there is no such environment, or it cannot be made.
    """
    env = _make_env(config)
    agent = make_agent(config, env)
    if module_of(config.agent):
        check_agent(agent, config, env)
    observers = _make_observers(config, env, agent)
    if config.training.num_shards == 1:
        train = make_train(env, agent, config, change_collect=change_collect)
        return Experiment(config, env, agent, train, observers)
    layout = make_layout(config.training.num_shards, devices or jax.devices())
    # Every process must have its part in it.
    wanted = devices or (jax.devices() if jax.process_count() > 1 else layout.devices)
    if len(layout.devices) < len(wanted):
        raise ConfigError(
            f"training.num_shards ({config.training.num_shards}) cannot be divided among "
            f"{len(wanted)} devices."
        )
    train = make_parallel_train(env, config, layout)
    return Experiment(config, env, agent, train, observers, layout)


def _make_observers(
    config: ExperimentConfig, env: Environment, agent: Agent
) -> tuple[Observer, ...]:
    """The observers that the registry names for the environment, and those of the settings."""
    named = observers_of(config.environment.name)
    observers = [user_code.load_reference(name)(env, agent) for name in named]
    for name in config.evaluation.observers:
        factory = user_code.find(name, "observer")
        with user_code.running(f"the observer {name} cannot be used"):
            observers.append(factory(env, agent))
            key = jax.eval_shape(jax.random.key, 0)
            jax.eval_shape(observers[-1].answers, _agent_shapes(agent, config), key)
    return tuple(observers)


def _agent_shapes(agent: Agent, config: ExperimentConfig) -> PyTree:
    """Shapes of the agent's state."""
    key = jax.eval_shape(jax.random.key, 0)
    return jax.eval_shape(agent.init, key, traced_settings(config))


def load_run(
    run_dir: Path, checkpoint: str = "", changes: Mapping[str, Any] = MappingProxyType({})
) -> LoadedRun:
    """Reads a run folder's settings and agent; the replay stays on disk.

    Args:
      run_dir: the run folder.
      checkpoint: the number of a checkpoint, or `best` for the best agent by the run's evaluations;
        the newest checkpoint where empty.
      changes: settings, by dotted name, that shall be others than in the run.

    Raises:
      InvalidRunError: it is not a run folder, or it has no such checkpoint.
      NoCheckpointError: it holds no checkpoint that can be used.
      EnvironmentCreationError: its environment cannot be made.
      CheckpointMismatchError: the agent does not fit the changed environment.
      ConfigError: a changed setting cannot work.
    """
    saved = load_config(run_dir)
    config = apply_settings(saved, changes)
    env = _make_env(config)
    if config.environment.name != saved.environment.name:
        _check_same_interface(run_dir, _make_env(saved).spec, env.spec)
    agent = make_agent(config, env)
    state, num_env_steps = _load_agent(run_dir, checkpoint, _agent_shapes(agent, config))
    return LoadedRun(config, env, agent, state, num_env_steps)


def load_ring(run_dir: Path, run: LoadedRun) -> tuple[ReplayState | None, int]:
    """Reads the replay that lies beside a run's agent.

    Args:
      run_dir: the run folder.
      run: what `load_run` has read from it.

    Returns:
      The ring, or those of all shards along a leading axis, and the environment steps after which
      it was saved: those of the agent if there is a checkpoint of that number, and otherwise those
      of the newest checkpoint. The ring is None where the agent learns from rollouts, or the
      checkpoint holds none.

    Raises:
      NoCheckpointError: no checkpoint can be used.
      CheckpointMismatchError: the ring was saved under another time limit.
    """
    train = build(run.config).train
    shapes: PyTree = jax.eval_shape(train.init, jax.eval_shape(jax.random.key, 0)).replay
    if not isinstance(shapes, ReplayState):
        return None, run.num_env_steps
    folder, groups = run_dir / CHECKPOINTS_FOLDER, {"agent": _agent_shapes(run.agent, run.config)}
    named = [step for step in checkpoint_steps(folder) if step == run.num_env_steps]
    restored = restore(folder, groups, {"replay": shapes}, named or None)
    return restored.groups.get("replay"), restored.step


def _load_agent(run_dir: Path, checkpoint: str, shapes: PyTree) -> tuple[PyTree, int]:
    """An agent's state, and the environment steps that it was trained for; see `load_run`."""
    folder, groups = run_dir / CHECKPOINTS_FOLDER, {"agent": shapes}
    if checkpoint == BEST_GROUP:
        return _best(run_dir, restore(folder, groups, {BEST_GROUP: shapes}))
    named = [step for step in checkpoint_steps(folder) if checkpoint == str(step)]
    if checkpoint and not named:
        raise InvalidRunError(
            f"--checkpoint must be best or the number of a checkpoint of {run_dir}, found "
            f"{checkpoint!r}; there are {describe_steps(folder)}."
        )
    restored = restore(folder, groups, steps=named or None)
    return restored.groups["agent"], restored.step


def _best(run_dir: Path, newest: Restored) -> tuple[PyTree, int]:
    """The better one of the best agent in the newest checkpoint and the run's final agent."""
    best, result = BestAgent.restored(newest), read_result(run_dir)
    # The last checkpoint is made before the final evaluation.
    is_final = result is not None and result["env_steps"] == newest.step
    if result is not None and is_final and (best is None or best.is_behind(result["score_mean"])):
        return newest.groups["agent"], newest.step
    if best is None:
        raise InvalidRunError(
            f"{run_dir} has no best agent: it was not evaluated before its newest checkpoint."
        )
    return best.agent, best.env_steps


def _check_same_interface(run_dir: Path, own: EnvironmentSpec, other: EnvironmentSpec) -> None:
    """Refuses an environment that shows or takes other things than the one of the run."""
    names = ("observation_shape", "observation_dtype", "action_space", "num_players")
    differing = [name for name in names if getattr(own, name) != getattr(other, name)]
    if differing:
        told = ", ".join(f"{name} {getattr(other, name)}" for name in differing)
        trained = ", ".join(f"{name} {getattr(own, name)}" for name in differing)
        raise CheckpointMismatchError(
            f"the agent of {run_dir} was trained on {own.name} with {trained}, but {other.name} "
            f"has {told}."
        )


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
