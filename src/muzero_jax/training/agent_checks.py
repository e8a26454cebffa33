"""Whether an agent of the user's own keeps what the loop asks of it, from shapes alone."""

from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.agents.base import (
    ActOutput,
    Agent,
    LearnOutput,
    Rollout,
    Rollouts,
    Unrolled,
    Windows,
)
from muzero_jax.config import ConfigError, ExperimentConfig, traced_settings
from muzero_jax.core import user_code
from muzero_jax.core.types import Metrics, PyTree
from muzero_jax.envs.base import Discrete, Environment
from muzero_jax.training.collect import Collect, Collector
from muzero_jax.training.learn import make_loop_replay

# No usual number of environments, so that a wrong axis is not taken for the batch.
_NUM_ENVS = 7


def check_agent(agent: Any, config: ExperimentConfig, env: Environment) -> None:
    """Refuses an agent that the loop could not use; its functions are traced, and never run.

    Args:
      agent: what the definition's `make` has returned.
      config: the settings of the run.
      env: one environment, neither batched nor auto-resetting.

    Raises:
      ConfigError: a function fails while it is traced, or gives something else than it should.
    """
    name = config.agent
    _require_kind(f"make of {name} must return an Agent", agent, Agent)
    _check_data(agent, config)
    if not agent.greedy:
        raise ConfigError(f"the agent {name} has no greedy way of acting, which is evaluated.")
    key = jax.eval_shape(jax.random.key, 0)
    state = _traced(f"init of {name}", agent.init, key, traced_settings(config))
    for field in ("hyperparameters", "num_updates"):
        if not hasattr(state, field):
            raise ConfigError(f"the state of {name} must have a field {field}.")
    collect = Collect(env, agent, _NUM_ENVS, length=2)
    collector = _traced(f"init_memory of {name}", collect.begin, key, key)
    ways = {"act": agent.act, **{f"greedy[{way!r}]": act for way, act in agent.greedy.items()}}
    for way, act in ways.items():
        output = _traced(f"{way} of {name}", act, state, key, collector.moment)
        _check_action(f"{way} of {name}", output, collector, env)
    if agent.unaveraged is not None:
        unaveraged = _traced(f"unaveraged of {name}", agent.unaveraged, state)
        _require_same(f"the state from unaveraged of {name}", unaveraged, state)
    _check_unroll(agent, config.agent, (state, collector))
    _check_learn(agent, config, collect, (state, collector))


def _require_kind(told: str, found: Any, kind: Any) -> None:
    if not isinstance(found, kind):
        raise ConfigError(f"{told}, found a {type(found).__name__}.")


def _check_data(agent: Agent, config: ExperimentConfig) -> None:
    """Checks that settings and agent agree on the replay."""
    name, data, replay = f"the agent {config.agent}", agent.data, config.replay
    _require_kind(f"data of {name} must be Windows or Rollouts", data, (Windows, Rollouts))
    if isinstance(data, Rollouts):
        if replay is not None:
            raise ConfigError(f"{name} learns from Rollouts, but its settings have a replay.")
        return
    if replay is None or data.replay != replay:
        raise ConfigError(
            f"{name} learns from Windows, whose replay must be the field `replay: ReplayConfig` of "
            "its settings."
        )
    found, told = data.spec.length, getattr(config.learner, "window_length", 1)
    if found != told:
        raise ConfigError(
            f"{name} reads windows of {found} steps, but the window_length of its settings is "
            f"{told}."
        )


def _check_action(what: str, output: Any, collector: Collector, env: Environment) -> None:
    space = env.spec.action_space
    _require_kind(f"{what} must return an ActOutput", output, ActOutput)
    assert space is not None
    shape, is_number = (_NUM_ENVS, *space.shape), isinstance(space, Discrete)
    kind: Any = jnp.integer if is_number else jnp.floating
    action = output.action
    if getattr(action, "shape", None) != shape or not jnp.issubdtype(action.dtype, kind):
        found = jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", action)
        raise ConfigError(
            f"{what} must give an action for each environment, {list(shape)} of "
            f"{'integers' if is_number else 'floats'}, found {found}, where {_NUM_ENVS} is the "
            "number of environments."
        )
    _require_same(f"the memory of {what}", output.memory, collector.memory)
    _check_metrics(what, output.metrics)


def _check_unroll(agent: Agent, name: str, parts: tuple[PyTree, Collector]) -> None:
    """Checks the shapes that a learned model gives along two actions."""
    if agent.unroll is None:
        return
    state, collector = parts
    actions = jax.ShapeDtypeStruct((2, _NUM_ENVS), jnp.int32)
    what, observation = f"unroll of {name}", collector.timestep.observation
    output = _traced(what, agent.unroll, state, observation, actions)
    _require_kind(f"{what} must return an Unrolled", output, Unrolled)
    found = tuple(output.value.shape), tuple(output.reward.shape)
    if found != ((3, _NUM_ENVS), (2, _NUM_ENVS)):
        raise ConfigError(
            f"{what} must give values [3, {_NUM_ENVS}] and rewards [2, {_NUM_ENVS}] along 2 "
            f"actions in {_NUM_ENVS} environments, found {list(found[0])} and {list(found[1])}."
        )


def _check_learn(
    agent: Agent, config: ExperimentConfig, collect: Collect, parts: tuple[PyTree, Collector]
) -> None:
    state, collector = parts
    key = jax.eval_shape(jax.random.key, 0)
    _, rollout, _ = _traced(f"act of {config.agent}", collect, state, collector)
    if agent.observe is not None:
        observed = _traced(f"observe of {config.agent}", agent.observe, state, rollout)
        _require_same(f"the state from observe of {config.agent}", observed, state)
    data: Rollout | Any = rollout
    if isinstance(agent.data, Windows):
        replay = make_loop_replay(agent.data, _NUM_ENVS)
        ring = jax.eval_shape(replay.init, collect.example(state, collector))
        data = jax.eval_shape(replay.sample, ring, key, 1.0, 1.0)
    what = f"learn of {config.agent}"
    output = _traced(what, agent.learn, state, key, data)
    _require_kind(f"{what} must return a LearnOutput", output, LearnOutput)
    _require_same(f"the state from {what}", output.state, state)
    _check_metrics(what, output.metrics)


def _traced(what: str, function: Any, *args: PyTree) -> Any:
    with user_code.running(f"{what} cannot be traced"):
        return jax.eval_shape(function, *args)


def _check_metrics(what: str, metrics: Metrics) -> None:
    for name, value in metrics.items():
        if value.shape != ():
            raise ConfigError(
                f"the metric {name} of {what} must be one number, found {list(value.shape)}."
            )


def _require_same(what: str, found: PyTree, wanted: PyTree) -> None:
    """Refuses a pytree of another structure, or with an array of another shape or dtype."""
    structures = str(jax.tree.structure(wanted)), str(jax.tree.structure(found))
    if structures[0] != structures[1]:
        told = "{} must have the structure {}, found {}.".format(what, *structures)
        raise ConfigError(told[:400])
    pairs = zip(jax.tree.leaves_with_path(wanted), jax.tree.leaves(found), strict=True)
    for (path, before), after in pairs:
        if (before.shape, before.dtype) != (after.shape, after.dtype):
            raise ConfigError(
                f"{what} must keep {before.dtype}{list(before.shape)} at "
                f"{jax.tree_util.keystr(path)}, found {after.dtype}{list(after.shape)}."
            )
