"""Greedy evaluation over whole episodes: no root noise, no temperature.

An episode that does not end within `evaluation.max_episode_steps` steps is cut there: it counts
with its return so far, and the result says how many were cut.

In a game of two players the agent changes seats from episode to episode and from slot to slot; it
plays against an opponent that plays uniformly among the legal moves; its score is its own return.
"""

import dataclasses
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from muzero_jax.agents.base import ActFn, Agent, Moment
from muzero_jax.config import EvaluationConfig
from muzero_jax.core import user_code
from muzero_jax.core.types import Array, PRNGKey, PyTree, TimeStep
from muzero_jax.envs.base import Environment, EnvState, random_legal_action
from muzero_jax.envs.wrappers import AutoReset, Vectorised
from muzero_jax.training.collect import choose_rows


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """Undiscounted returns and lengths of episodes, `[num_episodes]` each.

    Attributes:
      scores: the returns.
      lengths: the lengths of the episodes, in steps.
      observed: the metrics of the observers, by name.
      num_cut: how many of the episodes did not end by themselves and were cut.
    """

    scores: np.ndarray
    lengths: np.ndarray
    observed: Mapping[str, float] = dataclasses.field(default_factory=dict)
    num_cut: int = 0


# Splitting a key gives what folding in 0, 1, 2, ... gives; from here on folding gives other keys.
_OTHER_KEYS = 2**31


class Observer(Protocol):
    """Something else that an evaluation asks of an agent, beside its greedy episodes.

    A factory `(env, agent) -> Observer`, named `module:factory`, makes one: the registry names
    those of an environment, and `evaluation.observers` those that the user wants.
    """

    def answers(self, agent_state: PyTree, rng_key: PRNGKey) -> PyTree:
        """What the agent answers; pure, to be compiled and vmapped. The `rng_key` is consumed."""
        ...

    def metrics(self, answers: PyTree) -> Mapping[str, float]:
        """What the answers are worth, by slash-grouped name; called on the host."""
        ...


class _EvaluationState(struct.PyTreeNode):
    rng_key: PRNGKey
    env_state: EnvState
    timestep: TimeStep
    memory: PyTree
    episode_return: Array
    episode_length: Array
    scores: Array
    lengths: Array
    cut: Array
    num_finished: Array


class Evaluate:
    """`(agent_state, rng_key, num_episodes) -> EvaluationResult`, compiled once.

    Every slot plays a fixed number of episodes one after the other, so that short episodes are not
    favoured. `num_episodes` is at most the larger of the two of the config.

    Args:
      env: one environment, neither batched nor auto-resetting.
      agent: the learner.
      config: sizes.
      width: agents that `each` evaluates in one call; more than one are vmapped.
      observers: what else is asked of the agent.
      act: the way of acting; the agent's first greedy one where None.
    """

    def __init__(
        self,
        env: Environment,
        agent: Agent,
        config: EvaluationConfig,
        width: int = 1,
        observers: Sequence[Observer] = (),
        act: ActFn | None = None,
    ):
        self.env, self.config, self.width = env, config, width
        self.slots = _Slots(env, agent, config, act or agent.act_greedily)
        self.observers = tuple(observers)
        self._lock = threading.Lock()
        self._program: Callable[..., Any] | None = None

    def prepare(self, agent_state: PyTree) -> Callable[..., Any]:
        """Compiles for an agent's state, or its shapes, unless that is done; from any thread."""
        with self._lock:
            if self._program is None:
                run, key_shape = self._run, jax.eval_shape(jax.random.key, 0)
                if self.width > 1:
                    run = jax.vmap(run, in_axes=(0, 0, None))
                    key_shape = jax.ShapeDtypeStruct((self.width,), key_shape.dtype)
                quota_shape = jax.ShapeDtypeStruct((self.slots.num_slots,), jnp.int32)
                lowered = jax.jit(run).lower(agent_state, key_shape, quota_shape)
                self._program = lowered.compile()
        return self._program

    def __call__(
        self, agent_state: PyTree, rng_key: PRNGKey, num_episodes: int
    ) -> EvaluationResult:
        """Plays `num_episodes` episodes."""
        (result,) = self.each(agent_state, [rng_key], num_episodes)
        return result

    def each(
        self, agent_states: PyTree, rng_keys: Sequence[PRNGKey], num_episodes: int
    ) -> list[EvaluationResult]:
        """Plays `num_episodes` episodes with each of `width` agents.

        Args:
          agent_states: side by side along a leading axis, which one agent alone does not have.
          rng_keys: one for each agent.
          num_episodes: episodes of each agent.

        Returns:
          A result for each agent.
        """
        num_slots, max_quota = self.slots.num_slots, self.slots.max_quota
        if not 1 <= num_episodes <= max_quota * num_slots:
            raise ValueError(
                f"num_episodes must be between 1 and {max_quota * num_slots}, found {num_episodes}."
            )
        num_long = num_episodes % num_slots
        quota = num_episodes // num_slots + (np.arange(num_slots) < num_long).astype(np.int32)
        keys = rng_keys[0] if self.width == 1 else jnp.stack(list(rng_keys))
        outputs = jax.device_get(self.prepare(agent_states)(agent_states, keys, quota))
        if self.width == 1:
            return [self._result(quota, outputs)]
        rows = [jax.tree.map(lambda x, row=row: x[row], outputs) for row in range(self.width)]
        return [self._result(quota, row) for row in rows]

    def _run(self, agent_state: PyTree, rng_key: PRNGKey, quota: Array) -> PyTree:
        """What one agent's episodes come to, and what it answers the observers."""
        answers = [
            observer.answers(agent_state, jax.random.fold_in(rng_key, _OTHER_KEYS + number))
            for number, observer in enumerate(self.observers)
        ]
        return self.slots.run(agent_state, rng_key, quota), answers

    def _result(self, quota: np.ndarray, outputs: PyTree) -> EvaluationResult:
        (scores, lengths, cut), answers = outputs
        chosen = np.arange(self.slots.max_quota)[None] < quota[:, None]
        observed: dict[str, float] = {}
        for observer, answer in zip(self.observers, answers, strict=True):
            with user_code.running(f"the observer {type(observer).__name__} failed"):
                observed |= {name: float(x) for name, x in observer.metrics(answer).items()}
        num_cut = int(cut[chosen].sum())
        return EvaluationResult(scores[chosen], lengths[chosen], observed, num_cut)


class _Slots:
    """The compiled part: every slot plays until it has finished its quota."""

    def __init__(self, env: Environment, agent: Agent, config: EvaluationConfig, act: ActFn):
        most = max(config.num_episodes, config.final_num_episodes)
        self.num_slots = min(config.num_envs, most)
        self.max_quota = -(-most // self.num_slots)
        self.max_episode_steps, bound = config.max_episode_steps, env.spec.max_episode_steps
        self.may_cut = bound is None or bound > config.max_episode_steps
        self.agent, self.act, self.num_players = agent, act, env.spec.num_players
        self.env = Vectorised(AutoReset(env), self.num_slots)

    def seat(self, state: _EvaluationState) -> Array:
        """`[num_slots]` int32, the player that the agent is."""
        return (jnp.arange(self.num_slots) + state.num_finished) % self.num_players

    def run(self, agent_state: PyTree, rng_key: PRNGKey, quota: Array) -> tuple[Array, ...]:
        """Scores, lengths, and which episodes were cut, `[num_slots, max_quota]` each."""
        rng_key, reset_key = jax.random.split(rng_key)
        env_state, timestep = self.env.reset(reset_key)
        state = _EvaluationState(
            rng_key=rng_key,
            env_state=env_state,
            timestep=timestep,
            memory=self.agent.init_memory(self.num_slots),
            episode_return=jnp.zeros(self.num_slots),
            episode_length=jnp.zeros(self.num_slots, jnp.int32),
            scores=jnp.zeros((self.num_slots, self.max_quota)),
            lengths=jnp.zeros((self.num_slots, self.max_quota), jnp.int32),
            cut=jnp.zeros((self.num_slots, self.max_quota), bool),
            num_finished=jnp.zeros(self.num_slots, jnp.int32),
        )

        def unfinished(state: _EvaluationState) -> Array:
            return (state.num_finished < quota).any()

        state = jax.lax.while_loop(unfinished, functools.partial(self._step, agent_state), state)
        return state.scores, state.lengths, state.cut

    def _step(self, agent_state: PyTree, state: _EvaluationState) -> _EvaluationState:
        rng_key, act_key, env_key = jax.random.split(state.rng_key, 3)
        seat = self.seat(state)
        action, memory = self._act(agent_state, act_key, state, seat)
        env_state, timestep = self.env.step(env_key, state.env_state, action)
        outcome = env_state.outcome
        reward = jnp.take_along_axis(outcome.reward, seat[:, None], axis=1)[:, 0]
        episode_return = state.episode_return + reward
        episode_length = state.episode_length + 1
        cut = ~outcome.last & (episode_length >= self.max_episode_steps)
        ended = outcome.last | cut
        if self.may_cut:
            env_state, timestep = self._begin_anew(cut, env_key, env_state, timestep)
        # Episodes beyond the last column are dropped: their slot has filled its quota.
        column = jnp.where(ended, state.num_finished, self.max_quota)
        slot = jnp.arange(self.num_slots)
        return _EvaluationState(
            rng_key=rng_key,
            env_state=env_state,
            timestep=timestep,
            memory=choose_rows(ended, self.agent.init_memory(self.num_slots), memory),
            episode_return=jnp.where(ended, 0.0, episode_return),
            episode_length=jnp.where(ended, 0, episode_length),
            scores=state.scores.at[slot, column].set(episode_return, mode="drop"),
            lengths=state.lengths.at[slot, column].set(episode_length, mode="drop"),
            cut=state.cut.at[slot, column].set(cut, mode="drop"),
            num_finished=state.num_finished + ended,
        )

    def _begin_anew(
        self, cut: Array, rng_key: PRNGKey, env_state: EnvState, timestep: TimeStep
    ) -> tuple[EnvState, TimeStep]:
        """Resets the slots `[num_slots]` whose episode was cut; the others stay as they are."""

        def restart() -> tuple[EnvState, TimeStep]:
            fresh = self.env.reset(jax.random.fold_in(rng_key, _OTHER_KEYS))
            chosen: tuple[EnvState, TimeStep] = choose_rows(cut, fresh, (env_state, timestep))
            return chosen

        return jax.lax.cond(cut.any(), restart, lambda: (env_state, timestep))

    def _act(
        self, agent_state: PyTree, rng_key: PRNGKey, state: _EvaluationState, seat: Array
    ) -> tuple[Array, PyTree]:
        """The agent's action and notes; in its opponent's turn the action is a random legal one."""
        timestep = state.timestep
        moment = Moment(timestep, state.memory, state.episode_length, state.env_state.env_state)
        if self.num_players == 1:
            output = self.act(agent_state, rng_key, moment)
            return output.action, output.memory
        act_key, opponent_key = jax.random.split(rng_key)
        output = self.act(agent_state, act_key, moment)
        opponent_action = random_legal_action(opponent_key, timestep.legal_action_mask)
        is_own_turn = timestep.to_play == seat
        action = jnp.where(is_own_turn, output.action, opponent_action.astype(output.action.dtype))
        return action, choose_rows(is_own_turn, output.memory, state.memory)
