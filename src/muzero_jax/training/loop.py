"""The one compiled actor-learner loop that trains every agent.

    chunk = scan over iterations of [ collect: scan over steps ] -> [ learn: scan over updates ]

`init` and `train_chunk` are pure: compile `train_chunk` once with its argument donated, or
`jax.vmap` both over seeds and traced settings.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax

from muzero_jax.agents.base import Agent, Hyperparameters, Windows
from muzero_jax.agents.definition import unchanged
from muzero_jax.config import ConfigError, ExperimentConfig, traced_settings
from muzero_jax.core import user_code
from muzero_jax.core.types import Array, Metrics, PRNGKey, PyTree
from muzero_jax.envs.base import Environment
from muzero_jax.training.chunk_metrics import Sums, chunk_metrics, gather
from muzero_jax.training.collect import Collect
from muzero_jax.training.learn import Learn, LearnFromReplay, causes_first
from muzero_jax.training.shards import ONE_SHARD, Shards
from muzero_jax.training.train_state import StepCount, TrainState

ChangeCollect: TypeAlias = Callable[[Collect], Any]
"""From the usual way of collecting to another one with the same methods."""


@dataclasses.dataclass(frozen=True)
class Train:
    """The pure functions of a run.

    Attributes:
      init: `(rng_key, hyperparameters=None) -> state`; the traced settings of the config where
        None. The `rng_key` is consumed.
      train_chunk: `state -> (state, metrics)`, `iterations_per_chunk` iterations; the metrics are
        scalars by slash-grouped name, means over the chunk, or the largest of the chunk where the
        name ends in `_largest`; NaN where nothing was counted.
      learn_metric_names: names of the metrics that `Agent.learn` gives, causes before consequences.
    """

    init: Callable[..., TrainState]
    train_chunk: Callable[[TrainState], tuple[TrainState, Metrics]]
    learn_metric_names: tuple[str, ...]


def make_agent(
    config: ExperimentConfig,
    env: Environment,
    average: Callable[[PyTree], PyTree] = unchanged,
) -> Agent:
    """Builds the agent of a run.

    Args:
      config: the settings of the run, or of one shard of it.
      env: one environment, neither batched nor auto-resetting.
      average: averages gradients and metrics over the shards of the run.

    Raises:
      ConfigError: the agent does not suit the environment.
    """
    with user_code.running(f"the agent {config.agent} cannot be made"):
        agent: Agent = config.definition.build(config.learner, env, config.sizes(average))
    return agent


def make_train(
    env: Environment,
    agent: Agent,
    config: ExperimentConfig,
    shards: Shards = ONE_SHARD,
    change_collect: ChangeCollect = lambda collect: collect,
) -> Train:
    """Builds the functions of a run.

    Args:
      env: one environment, neither batched nor auto-resetting.
      agent: the learner; made with `shards.average` where there are several.
      config: sizes of the loop, or of one shard of it.
      shards: the shards of the run; the functions are those of one of them.
      change_collect: gives another way of collecting in the place of the usual one.

    Raises:
      ConfigError: the replay could not hold a window of the agent.
    """
    num_envs, length = config.training.num_envs, config.training.rollout_length
    collect = change_collect(Collect(env, agent, num_envs, length))
    learn, data = Learn(agent, shards), agent.data
    if isinstance(data, Windows):
        num_updates = config.num_updates_per_iteration
        learn = LearnFromReplay(agent, data, num_envs, num_updates, shards)
    loop = _Loop(agent, config, shards, collect, learn)
    state = shards.eval_shape(loop.init, jax.random.key(0))
    _, rollout, _ = jax.eval_shape(collect, state.agent, state.collector)
    return Train(loop.init, loop.train_chunk, causes_first(learn.shapes(state, rollout)))


@dataclasses.dataclass(frozen=True)
class _Loop:
    """The functions of the loop around their static parts; it holds no state."""

    agent: Agent
    config: ExperimentConfig
    shards: Shards
    collect: Any
    learn: Learn

    def init(self, rng_key: PRNGKey, hyperparameters: Hyperparameters | None = None) -> TrainState:
        settings: dict[str, Array | float] = dict(traced_settings(self.config))
        unknown = sorted(set(hyperparameters or {}) - set(settings))
        if unknown:
            raise ConfigError(f"not traced settings: {', '.join(unknown)}.")
        settings |= dict(hyperparameters or {})
        rng_key, agent_key, env_key = jax.random.split(rng_key, 3)
        # The shards begin with one agent, and differ in everything else.
        rng_key, env_key = self.shards.own_key(rng_key), self.shards.own_key(env_key)
        collector = self.collect.begin(rng_key, env_key)
        agent_state = self.agent.init(agent_key, settings)
        learner = self.learn.begin(agent_state, self.collect.example(agent_state, collector))
        return TrainState(
            agent=learner.agent,
            replay=learner.replay,
            first_failure=learner.first_failure,
            collector=collector,
            num_env_steps=StepCount.zero(),
        )

    def train_chunk(self, state: TrainState) -> tuple[TrainState, Metrics]:
        length = self.config.training.iterations_per_chunk
        state, sums = jax.lax.scan(self._iteration, state, None, length=length)
        totals = {name: (gather(found), count.sum()) for name, (found, count) in sums.items()}
        # Learning is the same in all shards; acting is not.
        learned = totals.pop("learn")
        totals = {**self.shards.total(totals), "learn": learned}
        counts = {"num_updates": learned[1], "episodes": totals["episode"][1]}
        metrics = {f"train/{name}": count for name, count in counts.items()}
        for total, count in totals.values():
            metrics |= chunk_metrics(total, count)
        return state, metrics

    def _iteration(self, state: TrainState, _: None) -> tuple[TrainState, Sums]:
        collector, rollout, sums = self.collect(state.agent, state.collector)
        rng_key, learn_key = jax.random.split(collector.rng_key)
        learned: Any
        learned, learn_sums = self.learn(state, learn_key, rollout)
        num_steps = self.config.env_steps_per_iteration * self.shards.num_shards
        state = learned.replace(
            collector=collector.replace(rng_key=rng_key),
            num_env_steps=state.num_env_steps.plus(num_steps),
        )
        return state, {**sums, **learn_sums}
