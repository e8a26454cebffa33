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

from muzero_jax.agents.base import ActFn, Agent, Moment
from muzero_jax.config import EvaluationConfig
from muzero_jax.core import user_code
from muzero_jax.core.types import Array, PRNGKey, PyTree
from muzero_jax.envs.base import Environment, random_legal_action
from muzero_jax.maths.rows import choose_rows
from muzero_jax.training.collect import Collect, Collector


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


class _EvaluationState(Collector):
    """Where the slots are, and what their episodes `[num_slots, max_quota]` came to."""

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
        most = max(config.num_episodes, config.final_num_episodes)
        self.num_slots = min(config.num_envs, most)
        self.max_quota = -(-most // self.num_slots)
        self.max_episode_steps, bound = config.max_episode_steps, env.spec.max_episode_steps
        self.may_cut = bound is None or bound > config.max_episode_steps
        self.act, self.num_players = act or agent.act_greedily, env.spec.num_players
        self.collect = Collect(env, agent, self.num_slots, length=1)
        self.width, self.observers = width, tuple(observers)
        self._lock = threading.Lock()
        self._program: Callable[..., Any] | None = None

    def prepare(self, agent_state: PyTree) -> Callable[..., Any]:
        """Compiles for an agent's state, or its shapes, unless that is done; from any thread."""
        with self._lock:
            if self._program is None:
                run, key_shape = self.run, jax.eval_shape(jax.random.key, 0)
                if self.width > 1:
                    run = jax.vmap(run, in_axes=(0, 0, None))
                    key_shape = jax.ShapeDtypeStruct((self.width,), key_shape.dtype)
                quota_shape = jax.ShapeDtypeStruct((self.num_slots,), jnp.int32)
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
        quota = self.quota(num_episodes)
        keys = rng_keys[0] if self.width == 1 else jnp.stack(list(rng_keys))
        outputs = jax.device_get(self.prepare(agent_states)(agent_states, keys, quota))
        rows = [outputs]
        if self.width > 1:
            rows = [jax.tree.map(lambda x, row=row: x[row], outputs) for row in range(self.width)]
        return [self._result(quota, row) for row in rows]

    def quota(self, num_episodes: int) -> np.ndarray:
        """The `[num_slots]` numbers of episodes that the slots play.

        Raises:
          ValueError: more episodes are asked for than the config has.
        """
        most = self.max_quota * self.num_slots
        if not 1 <= num_episodes <= most:
            raise ValueError(f"num_episodes must be between 1 and {most}, found {num_episodes}.")
        each, num_long = divmod(num_episodes, self.num_slots)
        return each + (np.arange(self.num_slots) < num_long).astype(np.int32)

    def _result(self, quota: np.ndarray, outputs: PyTree) -> EvaluationResult:
        (scores, lengths, cut), answers = outputs
        chosen = np.arange(self.max_quota)[None] < quota[:, None]
        observed: dict[str, float] = {}
        for observer, answer in zip(self.observers, answers, strict=True):
            with user_code.running(f"the observer {type(observer).__name__} failed"):
                observed |= {name: float(x) for name, x in observer.metrics(answer).items()}
        num_cut = int(cut[chosen].sum())
        return EvaluationResult(scores[chosen], lengths[chosen], observed, num_cut)

    def run(self, agent_state: PyTree, rng_key: PRNGKey, quota: Array) -> PyTree:
        """What the episodes of one agent came to, and what it answers the observers; pure.

        Args:
          agent_state: the state of the agent.
          rng_key: consumed.
          quota: `[num_slots]` episodes that the slots play.

        Returns:
          Returns, lengths and cuts `[num_slots, max_quota]`, of which each slot has filled its
          quota, and the answers.
        """
        answers = [
            observer.answers(agent_state, jax.random.fold_in(rng_key, _OTHER_KEYS + number))
            for number, observer in enumerate(self.observers)
        ]
        shape = (self.num_slots, self.max_quota)
        state = _EvaluationState(
            **vars(self.collect.begin(*jax.random.split(rng_key))),
            scores=jnp.zeros(shape),
            lengths=jnp.zeros(shape, jnp.int32),
            cut=jnp.zeros(shape, bool),
            num_finished=jnp.zeros(self.num_slots, jnp.int32),
        )
        state = jax.lax.while_loop(
            lambda state: (state.num_finished < quota).any(),
            functools.partial(self._step, agent_state),
            state,
        )
        return (state.scores, state.lengths, state.cut), answers

    def _step(self, agent_state: PyTree, state: _EvaluationState) -> _EvaluationState:
        rng_key, act_key, env_key = jax.random.split(state.rng_key, 3)
        slot = jnp.arange(self.num_slots)
        seat = (slot + state.num_finished) % self.num_players
        action, memory = self._act(agent_state, act_key, state.moment, seat)
        env_state, timestep = self.collect.env.step(env_key, state.env_state, action)
        outcome = env_state.outcome
        reward = jnp.take_along_axis(outcome.reward, seat[:, None], axis=1)[:, 0]
        episode_return = state.episode_return + reward
        episode_step = state.episode_step + 1
        cut = ~outcome.last & (episode_step >= self.max_episode_steps)
        ended = outcome.last | cut
        if self.may_cut:
            env_state, timestep = self._begin_anew(cut, env_key, (env_state, timestep))
        # Episodes beyond the last column are dropped: their slot has filled its quota.
        column = jnp.where(ended, state.num_finished, self.max_quota)
        return _EvaluationState(
            env_state=env_state,
            timestep=timestep,
            memory=choose_rows(ended, self.collect.agent.init_memory(self.num_slots), memory),
            rng_key=rng_key,
            episode_return=jnp.where(ended, 0.0, episode_return),
            episode_step=jnp.where(ended, 0, episode_step),
            scores=state.scores.at[slot, column].set(episode_return, mode="drop"),
            lengths=state.lengths.at[slot, column].set(episode_step, mode="drop"),
            cut=state.cut.at[slot, column].set(cut, mode="drop"),
            num_finished=state.num_finished + ended,
        )

    def _begin_anew(self, cut: Array, rng_key: PRNGKey, now: PyTree) -> PyTree:
        """Resets the slots `[num_slots]` whose episode was cut; the others stay as they are."""

        def restart() -> PyTree:
            fresh = self.collect.env.reset(jax.random.fold_in(rng_key, _OTHER_KEYS))
            return choose_rows(cut, fresh, now)

        return jax.lax.cond(cut.any(), restart, lambda: now)

    def _act(
        self, agent_state: PyTree, rng_key: PRNGKey, moment: Moment, seat: Array
    ) -> tuple[Array, PyTree]:
        """The agent's action and notes; in its opponent's turn the action is a random legal one."""
        if self.num_players == 1:
            output = self.act(agent_state, rng_key, moment)
            return output.action, output.memory
        act_key, opponent_key = jax.random.split(rng_key)
        output = self.act(agent_state, act_key, moment)
        opponent_action = random_legal_action(opponent_key, moment.timestep.legal_action_mask)
        is_own_turn = moment.timestep.to_play == seat
        action = jnp.where(is_own_turn, output.action, opponent_action.astype(output.action.dtype))
        return action, choose_rows(is_own_turn, output.memory, moment.memory)
