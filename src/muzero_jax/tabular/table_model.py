"""A table for a network: a model that is learned by counting what actions lead to.

The latent state is the number of a state, and one more stands for the end of an episode: absorbing,
worth nothing, and so the same to a search as a discount of 0.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import Rollout
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import Array, PRNGKey, Transition
from muzero_jax.envs.base import Environment, require_discrete
from muzero_jax.envs.wrappers import without_time_limit
from muzero_jax.search.policies import RecurrentFn, RecurrentFnOutput, RootFnOutput
from muzero_jax.search.row_model import NodeModel
from muzero_jax.tabular.outcomes import OutcomeTable, Steps, empty_table, likeliest_outcome
from muzero_jax.tabular.settings import TableConfig
from muzero_jax.training.collect import choose_rows

# Pairs of states and actions for which all answers of a table are worked out before a search, and
# copied by its kernel for each root. Of many more, a search asks but few.
_MOST_PREPARED = 4096


class TableParams(struct.PyTreeNode):
    """What a table knows.

    Attributes:
      model: what actions lead to.
      value: `[S + 1]`; that of the end is 0.
      policy_count: `[S + 1, A]` what the prior is proportional to.
    """

    model: OutcomeTable
    value: Array
    policy_count: Array


class SearchTable(struct.PyTreeNode):
    """The answers to all that a search can ask, so that each of its steps only looks them up.

    Attributes:
      next_state: `[S + 1, A]` int32.
      reward: `[S + 1, A]`.
      prior_logits: `[S + 1, A]`.
      value: `[S + 1]`.
    """

    next_state: Array
    reward: Array
    prior_logits: Array
    value: Array


@dataclasses.dataclass(frozen=True)
class TableModel:
    """A table as a search calls it: the functions of `agents.muzero.planning.SearchModel`.

    They take what was counted, or what was prepared from it. In a stochastic environment the search
    plans with the most frequent outcome of each pair.

    Attributes:
      config: the settings of the table.
      num_states: `S`.
      num_actions: `A`.
    """

    config: TableConfig
    num_states: int
    num_actions: int

    @property
    def is_small(self) -> bool:
        """Whether all answers are worked out before a search."""
        return (self.num_states + 1) * self.num_actions <= _MOST_PREPARED

    def init(self) -> TableParams:
        """A table of what was never tried."""
        value = jnp.full(self.num_states + 1, self.config.initial_value, jnp.float32)
        return TableParams(
            model=empty_table(self.num_states, self.num_actions, self.config.num_outcomes),
            value=value.at[self.num_states].set(0.0),
            policy_count=jnp.ones((self.num_states + 1, self.num_actions)),
        )

    def root(self, params: TableParams | SearchTable, observation: Array) -> RootFnOutput:
        """The state that `[B]` observations show, with its prior and value."""
        state = state_number(observation)
        prior_logits, value = self.predict(params, state)
        return RootFnOutput(prior_logits=prior_logits, value=value, embedding=state)

    def recurrent_fn(self, discount: Array | float) -> RecurrentFn:
        """One step of the table; the engine may ask a small table about one node at a time."""

        def recurrent_fn(
            params: TableParams | SearchTable, rng_key: PRNGKey, action: Array, state: Array
        ) -> tuple[RecurrentFnOutput, Array]:
            del rng_key  # The model is deterministic.
            state, reward = self.dynamics(params, state, action)
            prior_logits, value = self.predict(params, state)
            step = RecurrentFnOutput(
                reward=reward,
                discount=jnp.full_like(reward, discount),
                prior_logits=prior_logits,
                value=value,
            )
            return step, state

        return NodeModel(recurrent_fn) if self.is_small else recurrent_fn

    def prepare(self, params: TableParams | SearchTable) -> TableParams | SearchTable:
        """All answers of a small table, worked out before a search."""
        if isinstance(params, SearchTable) or not self.is_small:
            return params
        next_state, reward = self._outcome(params.model, jnp.arange(self.num_states)[:, None])
        end = jnp.full((1, self.num_actions), self.num_states)
        return SearchTable(
            next_state=jnp.concatenate([next_state, end]),
            reward=jnp.concatenate([reward, jnp.zeros(end.shape)]),
            prior_logits=_log_frequency(params.policy_count),
            value=params.value,
        )

    def predict(self, params: TableParams | SearchTable, state: Array) -> tuple[Array, Array]:
        """Prior logits `[B, A]` and values `[B]` of states `[B]`."""
        if isinstance(params, SearchTable):
            return _look_up(params.prior_logits, state), _look_up(params.value, state)
        return _log_frequency(params.policy_count[state]), params.value[state]

    def dynamics(
        self, params: TableParams | SearchTable, state: Array, action: Array
    ) -> tuple[Array, Array]:
        """The outcomes that the search plans with.

        Args:
          params: what was counted, or what was prepared from it.
          state: `[B]` int32.
          action: `[B]` int32.

        Returns:
          The next states `[B]` and the rewards `[B]`.
        """
        if isinstance(params, SearchTable):
            next_state, reward = params.next_state, params.reward
            return _look_up(next_state, state, action), _look_up(reward, state, action)
        row = jnp.minimum(state, self.num_states - 1)
        rows = jax.tree.map(lambda x: x[row, action], params.model)
        next_state, reward = self._outcome(rows, state)
        has_ended = state == self.num_states
        return jnp.where(has_ended, state, next_state), jnp.where(has_ended, 0.0, reward)

    def _outcome(self, rows: OutcomeTable, state: Array) -> tuple[Array, Array]:
        """What is planned with, `[...]` each, of `[..., K]` outcomes of actions in `[...]`."""
        unknown = self.config.unknown
        next_state, reward, is_known = likeliest_outcome(rows)
        unknown_next = state if unknown == "self_loop" else self.num_states
        promised = self.config.optimistic_value if unknown == "optimistic" else 0.0
        next_state = jnp.where(is_known, next_state, unknown_next)
        return next_state, jnp.where(is_known, reward, promised)


def _log_frequency(counts: Array) -> Array:
    return jnp.log(counts / counts.sum(axis=-1, keepdims=True))


def _look_up(table: Array, *index: Array) -> Array:
    return table.at[index].get(mode="promise_in_bounds")


def require_num_states(env: Environment, agent: str) -> int:
    """The number of states of an environment that a table can be learned of.

    All actions are taken to be legal everywhere, which a description does not tell.

    Args:
      env: the environment; numbered states are told by its attribute `num_states`.
      agent: the name of the agent, for the message.

    Raises:
      ConfigError: the states are not numbered, or not shown by their numbers; actions are not
        counted, or two players alternate.
    """
    spec = env.spec
    require_discrete(spec, agent)
    if spec.num_players != 1:
        raise ConfigError(f"tables are learned for one player, but {spec.name} has two.")
    num_states = getattr(without_time_limit(env), "num_states", None)
    if num_states is None:
        raise ConfigError(
            f"{spec.name} has no numbered states, which tables need; maze, line, chain, deep_sea "
            "and random_mdp have, and environments of your own with an attribute num_states."
        )
    if spec.observation_shape not in ((), (num_states,)):
        raise ConfigError(
            f"{spec.name} has {num_states} states, but observations of the shape "
            f"{spec.observation_shape}; tables need the number of the state, of the shape (), or "
            f"one-hot, of the shape ({num_states},)."
        )
    return int(num_states)


def state_number(observation: Array) -> Array:
    """`[B]` int32, the states that `[B]` numbers or `[B, S]` one-hot vectors show."""
    if observation.ndim == 1:
        return observation.astype(jnp.int32)
    return jnp.argmax(observation, axis=-1).astype(jnp.int32)


def rollout_steps(rollout: Rollout, num_states: int) -> tuple[Transition, Steps]:
    """The steps of a rollout `[T, num_envs]` one after the other, `[T * num_envs]`.

    Args:
      rollout: the rollout.
      num_states: `S`, which also stands for the end of an episode.

    Returns:
      The transitions, whose observations lead nowhere any more, and the steps between states.
    """
    transitions = rollout.transitions
    following = jnp.concatenate([transitions.observation[1:], rollout.timestep.observation[None]])
    flat: tuple[Transition, Array] = jax.tree.map(
        lambda x: x.reshape((-1, *x.shape[2:])), (transitions, following)
    )
    return flat[0], steps_between(*flat, num_states)


def replayed_steps(windows: Transition, num_states: int) -> Steps:
    """The first steps of replayed windows `[B, 2, ...]` as `[B]` steps between states.

    Args:
      windows: the windows.
      num_states: `S`, which also stands for the end of an episode.
    """
    final_observation = windows.final_observation  # Has no axis for the rows.
    first = jax.tree.map(lambda x: x[:, 0], windows.replace(final_observation=None))
    first = first.replace(final_observation=final_observation)
    return steps_between(first, windows.observation[:, 1], num_states)


def steps_between(transitions: Transition, following: Array, num_states: int) -> Steps:
    """`[N]` transitions as steps between numbered states.

    Args:
      transitions: `[N, ...]`.
      following: `[N, ...]` the observations after them, of a new episode where one ended.
      num_states: `S`, which also stands for the end of an episode.
    """
    if transitions.final_observation is not None:
        following = choose_rows(transitions.truncated, transitions.final_observation, following)
    has_ended = transitions.discount == 0.0
    return Steps(
        state=state_number(transitions.observation),
        action=transitions.action,
        reward=transitions.reward,
        next_state=jnp.where(has_ended, num_states, state_number(following)),
    )
