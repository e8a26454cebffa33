"""The one compiled actor-learner loop that trains every agent.

    chunk = scan over iterations of
        [ scan over steps: act -> environment ] -> replay.add -> [ scan: replay.sample -> learn ]

`init` and `train_chunk` are pure: compile `train_chunk` once with its argument donated, or
`jax.vmap` both over seeds and traced hyperparameters.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import Agent, Hyperparameters, LearnOutput
from muzero_jax.config import ConfigError, ExperimentConfig, traced_settings
from muzero_jax.core.types import Array, Metrics, PRNGKey, PyTree, TimeStep, Transition
from muzero_jax.envs.base import Environment, EnvState
from muzero_jax.envs.wrappers import AutoReset, Vectorised
from muzero_jax.replay.buffer import Replay, ReplayState, make_replay
from muzero_jax.training.chunk_metrics import chunk_metrics, gather, is_largest, nothing_gathered
from muzero_jax.training.cutting import cut_at_end, mean_discounted_return
from muzero_jax.training.shards import ONE_SHARD, Shards
from muzero_jax.training.train_state import FirstFailure, StepCount, TrainState


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


def make_train(
    env: Environment,
    agent: Agent,
    config: ExperimentConfig,
    replay: Replay | None = None,
    shards: Shards = ONE_SHARD,
) -> Train:
    """Builds the functions of a run.

    Args:
      env: one environment, neither batched nor auto-resetting.
      agent: the learner; made with `shards.average` where there are several.
      config: sizes of the loop, or of one shard of it.
      replay: the ring; the one that `config.replay` describes where None.
      shards: that the run consists of; the functions are those of one of them.
    """
    loop = _Loop(env, agent, config, replay or make_loop_replay(agent, config), shards)
    return Train(loop.init, loop.train_chunk, _causes_first(loop.learn_shapes.metrics))


def make_loop_replay(agent: Agent, config: ExperimentConfig) -> Replay:
    """The ring that `config.replay` describes, for the windows that `agent` reads."""
    return make_replay(
        capacity=config.replay.capacity,
        num_envs=config.training.num_envs,
        window=agent.window,
        batch_size=config.replay.batch_size,
        min_size=config.replay.min_size,
        prioritised=config.replay.prioritised,
    )


class _Loop:
    """The functions of the loop around their static parts; it holds no state."""

    def __init__(
        self,
        env: Environment,
        agent: Agent,
        config: ExperimentConfig,
        replay: Replay,
        shards: Shards,
    ):
        self.agent, self.config, self.replay, self.shards = agent, config, replay, shards
        self.env = Vectorised(AutoReset(env), config.training.num_envs)
        may_truncate = env.spec.can_truncate or config.training.cut_episodes
        self.stores_final_observation = may_truncate or agent.window.with_final_observation
        state = shards.eval_shape(self.init, jax.random.key(0))
        learner = _Learner(state.agent, state.replay.priorities, state.first_failure)
        _, self.learn_shapes = shards.eval_shape(
            self._update, state.replay, learner, jax.random.key(0)
        )

    def init(self, rng_key: PRNGKey, hyperparameters: Hyperparameters | None = None) -> TrainState:
        settings: dict[str, Array | float] = dict(traced_settings(self.config))
        unknown = sorted(set(hyperparameters or {}) - set(settings))
        if unknown:
            raise ConfigError(f"not traced settings: {', '.join(unknown)}.")
        settings |= dict(hyperparameters or {})
        rng_key, agent_key, env_key = jax.random.split(rng_key, 3)
        # The shards begin with one agent, and differ in everything else.
        rng_key, env_key = self.shards.own_key(rng_key), self.shards.own_key(env_key)
        env_state, timestep = self.env.reset(env_key)
        agent_state = self.agent.init(agent_key, settings)
        num_envs = self.config.training.num_envs

        def example(rng_key: PRNGKey) -> Transition:
            _, _, (transition, _, _) = self._env_step(agent_state, env_state, timestep, rng_key)
            return jax.tree.map(lambda x: x[0], transition)

        return TrainState(
            agent=agent_state,
            replay=self.replay.init(jax.eval_shape(example, rng_key)),
            env_state=env_state,
            timestep=timestep,
            rng_key=rng_key,
            episode_return=jnp.zeros(num_envs),
            episode_length=jnp.zeros(num_envs, jnp.int32),
            num_env_steps=StepCount.zero(),
            first_failure=FirstFailure(jnp.full((), -1, jnp.int32), jnp.full((), -1, jnp.int32)),
        )

    def train_chunk(self, state: TrainState) -> tuple[TrainState, Metrics]:
        length = self.config.training.iterations_per_chunk
        state, sums = jax.lax.scan(self._iteration, state, None, length=length)
        learned = gather(sums.pop("learn"))
        totals = jax.tree.map(lambda x: x.sum(axis=0), sums)
        learn_totals = {"learn": learned, "learn_count": totals.pop("learn_count")}
        # Learning is the same in all shards; acting is not.
        totals = self.shards.total(totals) | learn_totals
        counts = {"num_updates": totals["learn_count"], "episodes": totals["episode_count"]}
        metrics = {f"train/{name}": count for name, count in counts.items()}
        for group in ("act", "episode", "cut", "learn"):
            if group in totals:  # Not every run cuts its episodes.
                metrics |= chunk_metrics(totals[group], totals[f"{group}_count"])
        return state, metrics

    def _iteration(self, state: TrainState, _: None) -> tuple[TrainState, dict[str, Any]]:
        state, (transitions, priorities), sums = self._rollout(state)
        if self.config.training.cut_episodes:
            state, transitions, cut_sums = self._cut(state, transitions)
            sums |= cut_sums
        if self.agent.observe is not None:
            state = state.replace(agent=self.agent.observe(state.agent, transitions))
        state = state.replace(replay=self.replay.add(state.replay, transitions, priorities))
        # Only what learning changes goes through the conditional: under vmap it becomes a select,
        # which would copy the whole ring.
        learner = _Learner(state.agent, state.replay.priorities, state.first_failure)
        rng_key, learn_key = jax.random.split(state.rng_key)
        learn = functools.partial(self._learn, state.replay, learn_key)
        learner, learn_sums, learn_count = jax.lax.cond(
            self.replay.can_sample(state.replay), learn, self._skip_learning, learner
        )
        state = state.replace(
            agent=learner.agent,
            replay=state.replay.replace(priorities=learner.priorities),
            first_failure=learner.first_failure,
            rng_key=rng_key,
        )
        return state, {**sums, "learn": learn_sums, "learn_count": learn_count}

    def _rollout(
        self, state: TrainState
    ) -> tuple[TrainState, tuple[Transition, Array], dict[str, Any]]:
        """Acts for `rollout_length` steps; returns `[T, num_envs]` transitions and priorities."""
        length = self.config.training.rollout_length

        def step(state: TrainState, _: None) -> tuple[TrainState, tuple[Any, ...]]:
            rng_key, step_key = jax.random.split(state.rng_key)
            env_state, timestep, (transition, priority, metrics) = self._env_step(
                state.agent, state.env_state, state.timestep, step_key
            )
            episode_return = state.episode_return + env_state.outcome.reward[:, 0]
            episode_length = state.episode_length + 1
            last = env_state.outcome.last
            finished = {
                "return": jnp.where(last, episode_return, 0.0).sum(),
                "length": jnp.where(last, episode_length, 0).sum().astype(jnp.float32),
            }
            state = state.replace(
                env_state=env_state,
                timestep=timestep,
                rng_key=rng_key,
                episode_return=jnp.where(last, 0.0, episode_return),
                episode_length=jnp.where(last, 0, episode_length),
            )
            return state, (transition, priority, metrics, finished, last.sum())

        state, (transitions, priorities, metrics, finished, num_finished) = jax.lax.scan(
            step, state, None, length=length
        )
        num_env_steps = length * self.config.training.num_envs * self.shards.num_shards
        sums = {
            "act": jax.tree.map(jnp.sum, metrics),
            "act_count": jnp.asarray(length),
            "episode": {f"episode/{k}": v.sum() for k, v in finished.items()},
            "episode_count": num_finished.sum(),
        }
        state = state.replace(num_env_steps=state.num_env_steps.plus(num_env_steps))
        return state, (transitions, priorities), sums

    def _cut(
        self, state: TrainState, transitions: Transition
    ) -> tuple[TrainState, Transition, dict[str, Any]]:
        """Ends all episodes with the rollout."""
        rng_key, env_key = jax.random.split(state.rng_key)
        env_state, timestep = self.env.reset(env_key)
        transitions = cut_at_end(transitions)
        discount = state.agent.hyperparameters["target.discount"]
        # Of each rollout, as those samplers log it: pooled over rollouts, the good ones, whose
        # episodes are short and many, would count for more.
        mean = mean_discounted_return(transitions, discount)
        state = state.replace(
            env_state=env_state,
            timestep=timestep,
            rng_key=rng_key,
            episode_return=jnp.zeros_like(state.episode_return),
            episode_length=jnp.zeros_like(state.episode_length),
        )
        sums = {"cut": {"episode/discounted_return": mean}, "cut_count": jnp.asarray(1)}
        return state, transitions, sums

    def _env_step(
        self, agent_state: PyTree, env_state: EnvState, timestep: TimeStep, rng_key: PRNGKey
    ) -> tuple[EnvState, TimeStep, tuple[Transition, Array, Metrics]]:
        """One batched step; the stored reward is that of the player who moved."""
        act_key, env_key = jax.random.split(rng_key)
        act = self.agent.act(agent_state, act_key, timestep, True)
        env_state, next_timestep = self.env.step(env_key, env_state, act.action)
        outcome = env_state.outcome
        reward = jnp.take_along_axis(outcome.reward, timestep.to_play[:, None], axis=1)[:, 0]
        transition = Transition(
            observation=timestep.observation,
            legal_action_mask=timestep.legal_action_mask,
            to_play=timestep.to_play,
            action=act.action,
            reward=reward,
            discount=outcome.discount,
            truncated=outcome.truncated,
            final_observation=outcome.observation if self.stores_final_observation else None,
            record=act.record,
        )
        return env_state, next_timestep, (transition, act.priority, act.metrics)

    def _learn(
        self, replay: ReplayState, rng_key: PRNGKey, learner: "_Learner"
    ) -> tuple["_Learner", Metrics, Array]:
        """All updates of one iteration; returns their gathered metrics, and their number."""
        length = self.config.num_updates_per_iteration

        def update(learner: _Learner, rng_key: PRNGKey) -> tuple[_Learner, Metrics]:
            learner, output = self._update(replay, learner, rng_key)
            return learner, output.metrics

        learner, metrics = jax.lax.scan(update, learner, jax.random.split(rng_key, length))
        return learner, gather(metrics), jnp.asarray(length)

    def _skip_learning(self, learner: "_Learner") -> tuple["_Learner", Metrics, Array]:
        return learner, nothing_gathered(self.learn_shapes.metrics), jnp.asarray(0)

    def _update(
        self, replay: ReplayState, learner: "_Learner", rng_key: PRNGKey
    ) -> tuple["_Learner", LearnOutput]:
        """Samples, learns, writes priorities back; an update that is not finite is not applied."""
        sample_key, learn_key = jax.random.split(rng_key)
        settings = learner.agent.hyperparameters
        replay = replay.replace(priorities=learner.priorities)
        batch = self.replay.sample(
            replay,
            sample_key,
            settings["replay.priority_exponent"],
            settings["replay.importance_exponent"],
        )
        output = self.agent.learn(learner.agent, learn_key, batch)
        # The agent has averaged its metrics over the shards, but an average hides the largest.
        largest = {name: x for name, x in output.metrics.items() if is_largest(name)}
        output = output.replace(metrics=output.metrics | self.shards.maximum(largest))
        names = _causes_first(output.metrics)
        is_bad = ~jnp.isfinite(jnp.stack([output.metrics[name] for name in names]))
        failed_before = learner.first_failure.update >= 0
        failed = is_bad.any() | failed_before
        keep = jax.tree.map(
            lambda new, old: jnp.where(failed, old, new), output.state, learner.agent
        )
        failure = FirstFailure(learner.agent.num_updates, jnp.argmax(is_bad).astype(jnp.int32))
        is_first = failed & ~failed_before
        first_failure = jax.tree.map(
            lambda new, old: jnp.where(is_first, new, old), failure, learner.first_failure
        )
        if self.config.replay.prioritised:
            priorities = jnp.where(failed, 0.0, output.priorities)
            replay = self.replay.update_priorities(replay, batch.index, priorities)
        return _Learner(keep, replay.priorities, first_failure), output


class _Learner(struct.PyTreeNode):
    """The part of a `TrainState` that an update changes."""

    agent: PyTree
    priorities: Array
    first_failure: FirstFailure


def _causes_first(names: Iterable[str]) -> tuple[str, ...]:
    """Orders metrics so that the first bad one is the culprit, which spoils total and gradient."""
    return tuple(sorted(names, key=lambda n: ("gradient" in n, "total" in n, "loss" in n, n)))
