"""Collecting: the agent acts in all environments for the steps of one rollout."""

import functools

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import Agent, Moment, Rollout
from muzero_jax.core.types import Array, Metrics, PRNGKey, PyTree, TimeStep, Transition
from muzero_jax.envs.base import Environment, EnvState
from muzero_jax.envs.wrappers import AutoReset, Vectorised
from muzero_jax.maths.rows import choose_rows
from muzero_jax.training.chunk_metrics import Sums, gather


class Collector(struct.PyTreeNode):
    """Where collecting is.

    Attributes:
      env_state: states of the `num_envs` auto-resetting environments.
      timestep: `[num_envs, ...]` what the environments returned last.
      memory: `[num_envs, ...]` the agent's notes.
      rng_key: the key of the next step.
      episode_return: `[num_envs]` undiscounted return so far, of the first player.
      episode_step: `[num_envs]` int32, steps of the episode so far.
    """

    env_state: EnvState
    timestep: TimeStep
    memory: PyTree
    rng_key: PRNGKey
    episode_return: Array
    episode_step: Array

    @property
    def moment(self) -> Moment:
        """What the agent may look at now."""
        return Moment(self.timestep, self.memory, self.episode_step, self.env_state.env_state)


class Collect:
    """`(agent_state, collector) -> (collector, rollout, sums)`; it holds no state.

    Args:
      env: one environment, neither batched nor auto-resetting.
      agent: the learner.
      num_envs: environments that act in one batch.
      length: steps of a rollout.
    """

    def __init__(self, env: Environment, agent: Agent, num_envs: int, length: int):
        self.agent, self.num_envs, self.length = agent, num_envs, length
        self.env = Vectorised(AutoReset(env), num_envs)
        self.keeps_final_observation = env.spec.can_truncate

    def begin(self, rng_key: PRNGKey, env_key: PRNGKey) -> Collector:
        """Starts an episode in every environment; `rng_key` is the key of the first step."""
        env_state, timestep = self.env.reset(env_key)
        return Collector(
            env_state=env_state,
            timestep=timestep,
            memory=self.agent.init_memory(self.num_envs),
            rng_key=rng_key,
            episode_return=jnp.zeros(self.num_envs),
            episode_step=jnp.zeros(self.num_envs, jnp.int32),
        )

    def example(self, agent_state: PyTree, collector: Collector) -> Transition:
        """The shapes of one stored transition."""
        _, (rows, *_) = jax.eval_shape(self._step, agent_state, collector)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), rows)

    def __call__(
        self, agent_state: PyTree, collector: Collector
    ) -> tuple[Collector, Rollout, Sums]:
        """Acts for the steps of one rollout."""
        step = functools.partial(self._step, agent_state)
        collector, (transitions, priority, metrics, finished, num_finished) = jax.lax.scan(
            step, collector, None, length=self.length
        )
        sums = {
            "act": (gather(metrics), jnp.asarray(self.length)),
            "episode": (gather(finished), num_finished.sum()),
        }
        return collector, Rollout(transitions, priority, collector.timestep), sums

    def _step(
        self, agent_state: PyTree, collector: Collector, _: None = None
    ) -> tuple[Collector, tuple[Transition, Array, Metrics, Metrics, Array]]:
        """One batched step: the transition, its priority, and what becomes the sums."""
        rng_key, step_key = jax.random.split(collector.rng_key)
        act_key, env_key = jax.random.split(step_key)
        act = self.agent.act(agent_state, act_key, collector.moment)
        env_state, timestep = self.env.step(env_key, collector.env_state, act.action)
        outcome, before = env_state.outcome, collector.timestep
        # The stored reward is that of the player who moved.
        reward = jnp.take_along_axis(outcome.reward, before.to_play[:, None], axis=1)[:, 0]
        transition = Transition(
            observation=before.observation,
            legal_action_mask=before.legal_action_mask,
            to_play=before.to_play,
            action=act.action,
            reward=reward,
            discount=outcome.discount,
            truncated=outcome.truncated,
            final_observation=outcome.observation if self.keeps_final_observation else None,
            record=act.record,
        )
        priority = jnp.ones(self.num_envs) if act.priority is None else act.priority
        episode_return = collector.episode_return + outcome.reward[:, 0]
        episode_step, last = collector.episode_step + 1, outcome.last
        finished = {
            "episode/return": jnp.where(last, episode_return, 0.0).sum(),
            "episode/length": jnp.where(last, episode_step, 0).sum().astype(jnp.float32),
        }
        collector = Collector(
            env_state=env_state,
            timestep=timestep,
            memory=choose_rows(last, self.agent.init_memory(self.num_envs), act.memory),
            rng_key=rng_key,
            episode_return=jnp.where(last, 0.0, episode_return),
            episode_step=jnp.where(last, 0, episode_step),
        )
        return collector, (transition, priority, act.metrics, finished, last.sum())
