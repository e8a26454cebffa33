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
from muzero_jax.maths.rows import choose_rows
from muzero_jax.search.policies import RecurrentFn, RecurrentFnOutput, RootFnOutput
from muzero_jax.search.row_model import NodeModel
from muzero_jax.tabular.outcomes import OutcomeTable, Steps, empty_table
from muzero_jax.tabular.settings import TableConfig

# Pairs of states and actions of a table that the kernel of a search copies for each root.
_MOST_IN_KERNEL = 4096


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

    All fields are `[S + 1, A]`, but for `value`, which is `[S + 1]`.
    """

    next_state: Array
    reward: Array
    prior_logits: Array
    value: Array


@dataclasses.dataclass(frozen=True)
class TableModel:
    """A table as a search calls it: the functions of `agents.muzero.planning.SearchModel`.

    In a stochastic environment the search plans with the most frequent outcome of each pair.

    Attributes:
      config: the settings of the table.
      num_states: `S`.
      num_actions: `A`.
    """

    config: TableConfig
    num_states: int
    num_actions: int

    def init(self) -> TableParams:
        """A table of what was never tried."""
        value = jnp.full(self.num_states + 1, self.config.initial_value, jnp.float32)
        return TableParams(
            model=empty_table(self.num_states, self.num_actions, self.config.num_outcomes),
            value=value.at[self.num_states].set(0.0),
            policy_count=jnp.ones((self.num_states + 1, self.num_actions)),
        )

    def root(self, params: TableParams, observation: Array) -> RootFnOutput:
        """The state that `[B]` observations show, with its prior and value."""
        state = state_number(observation)
        prior_logits = _log_frequency(params.policy_count[state])
        return RootFnOutput(prior_logits=prior_logits, value=params.value[state], embedding=state)

    def prepare(self, params: TableParams) -> SearchTable:
        """All answers, worked out before a search."""
        model, unknown = params.model, self.config.unknown
        num_outcomes, is_known = self.config.num_outcomes, model.visits > 0
        is_likeliest = jax.nn.one_hot(jnp.argmax(model.count, axis=-1), num_outcomes, dtype=bool)

        def likeliest(x: Array) -> Array:
            return jnp.where(is_likeliest, x, 0).sum(axis=-1, dtype=x.dtype)

        next_state, reward = likeliest(model.next_state), likeliest(model.reward)
        state = jnp.arange(self.num_states)[:, None]
        unknown_next = state if unknown == "self_loop" else self.num_states
        promised = self.config.optimistic_value if unknown == "optimistic" else 0.0
        end = jnp.full((1, self.num_actions), self.num_states)
        return SearchTable(
            next_state=jnp.concatenate([jnp.where(is_known, next_state, unknown_next), end]),
            reward=jnp.concatenate([jnp.where(is_known, reward, promised), jnp.zeros(end.shape)]),
            prior_logits=_log_frequency(params.policy_count),
            value=params.value,
        )

    def recurrent_fn(self, discount: Array | float) -> RecurrentFn:
        """One step of a prepared table; the kernel of the engine holds a small one."""

        def recurrent_fn(
            table: SearchTable, rng_key: PRNGKey, action: Array, state: Array
        ) -> tuple[RecurrentFnOutput, Array]:
            del rng_key  # The model is deterministic.
            next_state = _look_up(table.next_state, state, action)
            reward = _look_up(table.reward, state, action)
            step = RecurrentFnOutput(
                reward=reward,
                discount=jnp.full_like(reward, discount),
                prior_logits=_look_up(table.prior_logits, next_state),
                value=_look_up(table.value, next_state),
            )
            return step, next_state

        is_small = (self.num_states + 1) * self.num_actions <= _MOST_IN_KERNEL
        return NodeModel(recurrent_fn) if is_small else recurrent_fn


def _log_frequency(counts: Array) -> Array:
    return jnp.log(counts / counts.sum(axis=-1, keepdims=True))


def _look_up(table: Array, *index: Array) -> Array:
    return table.at[index].get(mode="promise_in_bounds")


def require_num_states(env: Environment, agent: str) -> int:
    """The number of states of an environment, from its attribute `num_states`.

    All actions are taken to be legal everywhere. The message names the agent.

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
    if observation.ndim > 1:
        observation = jnp.argmax(observation, axis=-1)
    return observation.astype(jnp.int32)


def rollout_steps(rollout: Rollout, num_states: int) -> Steps:
    """`[T * num_envs]` steps between states, from a rollout `[T, num_envs]`.

    The number of states also stands for the end of an episode.
    """
    transitions = rollout.transitions
    following = jnp.concatenate([transitions.observation[1:], rollout.timestep.observation[None]])
    flat: tuple[Transition, Array] = jax.tree.map(
        lambda x: x.reshape((-1, *x.shape[2:])), (transitions, following)
    )
    return _steps_between(*flat, num_states)


def replayed_steps(windows: Transition, num_states: int) -> Steps:
    """`[B]` steps between states, the first of replayed windows `[B, 2, ...]`."""
    final_observation = windows.final_observation  # Has no axis for the rows.
    first = jax.tree.map(lambda x: x[:, 0], windows.replace(final_observation=None))
    first = first.replace(final_observation=final_observation)
    return _steps_between(first, windows.observation[:, 1], num_states)


def _steps_between(transitions: Transition, following: Array, num_states: int) -> Steps:
    """Steps from `[N, ...]` transitions and the observations after them, of a new episode too."""
    if transitions.final_observation is not None:
        following = choose_rows(transitions.truncated, transitions.final_observation, following)
    has_ended = transitions.discount == 0.0
    return Steps(
        state=state_number(transitions.observation),
        action=transitions.action,
        reward=transitions.reward,
        next_state=jnp.where(has_ended, num_states, state_number(following)),
    )
