"""Greedy evaluation over complete episodes: no root noise, no temperature, no time cut.

In a game of two players the agent takes the first seat in every other slot and the second in the
rest, against an opponent that plays uniformly among the legal moves; its score is its own return.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from muzero_jax.agents.base import Agent
from muzero_jax.config import EvaluationConfig
from muzero_jax.envs.base import Environment, EnvState, random_legal_action
from muzero_jax.envs.wrappers import AutoReset, Vectorised
from muzero_jax.types import Array, PRNGKey, PyTree, TimeStep


class UnfinishedEpisodeError(RuntimeError):
    """An episode did not end within the evaluation's limit."""


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """Undiscounted returns and lengths of complete episodes, `[num_episodes]` each."""

    scores: np.ndarray
    lengths: np.ndarray


class _EvaluationState(struct.PyTreeNode):
    rng_key: PRNGKey
    env_state: EnvState
    timestep: TimeStep
    episode_return: Array
    episode_length: Array
    scores: Array
    lengths: Array
    num_finished: Array


def make_evaluate(
    env: Environment, agent: Agent, config: EvaluationConfig
) -> Callable[[PyTree, PRNGKey, int], EvaluationResult]:
    """Builds `(agent_state, rng_key, num_episodes) -> EvaluationResult`, compiled once.

    Every slot plays a fixed number of episodes one after the other, so that short episodes are not
    favoured. `num_episodes` is at most the larger of the two of `config`.

    Raises (when called):
      UnfinishedEpisodeError: an episode was longer than `config.max_episode_steps`.
    """
    slots = _Slots(env, agent, config)
    run, num_slots = jax.jit(slots.run), slots.num_slots
    most = slots.max_quota * num_slots

    def evaluate(agent_state: PyTree, rng_key: PRNGKey, num_episodes: int) -> EvaluationResult:
        if not 1 <= num_episodes <= most:
            raise ValueError(f"num_episodes must be between 1 and {most}, found {num_episodes}.")
        quota = num_episodes // num_slots + (np.arange(num_slots) < num_episodes % num_slots)
        scores, lengths, num_finished = jax.device_get(run(agent_state, rng_key, quota))
        if (num_finished < quota).any():
            raise UnfinishedEpisodeError(
                f"an evaluation episode of {env.spec.name} took more than "
                f"evaluation.max_episode_steps = {config.max_episode_steps} steps; "
                "raise it, or set environment.time_limit."
            )
        chosen = np.arange(slots.max_quota)[None] < quota[:, None]
        return EvaluationResult(scores[chosen], lengths[chosen])

    return evaluate


class _Slots:
    """The compiled part: every slot plays until it has finished its quota."""

    def __init__(self, env: Environment, agent: Agent, config: EvaluationConfig):
        most = max(config.num_episodes, config.final_num_episodes)
        self.num_slots = min(config.num_envs, most)
        self.max_quota = -(-most // self.num_slots)
        self.max_episode_steps = config.max_episode_steps
        self.agent, self.num_players = agent, env.spec.num_players
        self.env = Vectorised(AutoReset(env), self.num_slots)

    @property
    def seat(self) -> Array:
        """`[num_slots]` int32, the player that the agent is."""
        return jnp.arange(self.num_slots) % self.num_players

    def run(self, agent_state: PyTree, rng_key: PRNGKey, quota: Array) -> tuple[Array, ...]:
        """Scores and lengths `[num_slots, max_quota]`, and how many `[num_slots]` are finished."""
        rng_key, reset_key = jax.random.split(rng_key)
        env_state, timestep = self.env.reset(reset_key)
        state = _EvaluationState(
            rng_key=rng_key,
            env_state=env_state,
            timestep=timestep,
            episode_return=jnp.zeros(self.num_slots),
            episode_length=jnp.zeros(self.num_slots, jnp.int32),
            scores=jnp.zeros((self.num_slots, self.max_quota)),
            lengths=jnp.zeros((self.num_slots, self.max_quota), jnp.int32),
            num_finished=jnp.zeros(self.num_slots, jnp.int32),
        )

        def unfinished(state: _EvaluationState) -> Array:
            waiting = state.num_finished < quota
            too_long = waiting & (state.episode_length >= self.max_episode_steps)
            return waiting.any() & ~too_long.any()

        state = jax.lax.while_loop(unfinished, functools.partial(self._step, agent_state), state)
        return state.scores, state.lengths, state.num_finished

    def _step(self, agent_state: PyTree, state: _EvaluationState) -> _EvaluationState:
        rng_key, act_key, env_key = jax.random.split(state.rng_key, 3)
        action = self._act(agent_state, act_key, state.timestep)
        env_state, timestep = self.env.step(env_key, state.env_state, action)
        outcome = env_state.outcome
        reward = jnp.take_along_axis(outcome.reward, self.seat[:, None], axis=1)[:, 0]
        episode_return = state.episode_return + reward
        episode_length = state.episode_length + 1
        # Episodes beyond the last column are dropped: their slot has filled its quota.
        column = jnp.where(outcome.last, state.num_finished, self.max_quota)
        slot = jnp.arange(self.num_slots)
        return _EvaluationState(
            rng_key=rng_key,
            env_state=env_state,
            timestep=timestep,
            episode_return=jnp.where(outcome.last, 0.0, episode_return),
            episode_length=jnp.where(outcome.last, 0, episode_length),
            scores=state.scores.at[slot, column].set(episode_return, mode="drop"),
            lengths=state.lengths.at[slot, column].set(episode_length, mode="drop"),
            num_finished=state.num_finished + outcome.last,
        )

    def _act(self, agent_state: PyTree, rng_key: PRNGKey, timestep: TimeStep) -> Array:
        """The agent's greedy action, or in its opponent's turn a random legal one."""
        if self.num_players == 1:
            return self.agent.act(agent_state, rng_key, timestep, False).action
        act_key, opponent_key = jax.random.split(rng_key)
        action = self.agent.act(agent_state, act_key, timestep, False).action
        opponent_action = random_legal_action(opponent_key, timestep.legal_action_mask)
        is_own_turn = timestep.to_play == self.seat
        return jnp.where(is_own_turn, action, opponent_action.astype(action.dtype))
