"""A table for a network: a model that is learned by counting what actions lead to.

The latent state is the number of a state, and one more stands for the end of an episode: absorbing,
worth nothing, and so the same to a search as a discount of 0.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.config import ConfigError, TableConfig
from muzero_jax.core.types import Array, PRNGKey, Transition
from muzero_jax.envs.base import EnvironmentSpec
from muzero_jax.networks.model import MuZeroModel
from muzero_jax.tabular.outcomes import OutcomeTable, Steps, empty_table, likeliest_outcome

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


def make_table_model(config: TableConfig, spec: EnvironmentSpec) -> MuZeroModel:
    """Builds the model.

    In a stochastic environment it plans with the most frequent outcome of each pair.

    Args:
      config: of the table.
      spec: of the environment.

    Raises:
      ConfigError: the environment's states are not numbered.
    """
    table = _Table(config, require_num_states(spec), spec.num_actions)
    return MuZeroModel(
        init=table.init,
        represent=lambda params, observation: state_number(observation),
        predict=table.predict,
        dynamics=table.dynamics,
        support_spacing=None,
        prepare=table.prepare,
        is_asked_node_by_node=table.is_small,
        may_mask_actions=False,
    )


@dataclasses.dataclass(frozen=True)
class _Table:
    """The functions of a `MuZeroModel`, of what was counted or of what was prepared from it."""

    config: TableConfig
    num_states: int
    num_actions: int

    @property
    def is_small(self) -> bool:
        """Whether all answers are worked out before a search."""
        return (self.num_states + 1) * self.num_actions <= _MOST_PREPARED

    def init(self, rng_key: PRNGKey) -> TableParams:
        del rng_key  # Nothing is random.
        value = jnp.full(self.num_states + 1, self.config.initial_value, jnp.float32)
        return TableParams(
            model=empty_table(self.num_states, self.num_actions, self.config.num_outcomes),
            value=value.at[self.num_states].set(0.0),
            policy_count=jnp.ones((self.num_states + 1, self.num_actions)),
        )

    def prepare(self, params: TableParams | SearchTable) -> TableParams | SearchTable:
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
        if isinstance(params, SearchTable):
            return _look_up(params.prior_logits, state), _look_up(params.value, state)
        return _log_frequency(params.policy_count[state]), params.value[state]

    def dynamics(
        self, params: TableParams | SearchTable, state: Array, action: Array
    ) -> tuple[Array, Array]:
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


def require_num_states(spec: EnvironmentSpec) -> int:
    """The number of states of an environment that a table can be learned of.

    All actions are taken to be legal everywhere, which a description does not tell.

    Raises:
      ConfigError: its states are not numbered, or two players alternate.
    """
    if spec.num_players != 1:
        raise ConfigError(f"tables are learned for one player, but {spec.name} has two.")
    if spec.num_states is None:
        raise ConfigError(
            f"{spec.name} has no numbered states, which tables need; maze, line, chain, deep_sea "
            "and random_mdp have, and environments whose spec has num_states."
        )
    return spec.num_states


def state_number(observation: Array) -> Array:
    """`[B]` int32, the states that `[B]` numbers or `[B, S]` one-hot vectors show."""
    if observation.ndim == 1:
        return observation.astype(jnp.int32)
    return jnp.argmax(observation, axis=-1).astype(jnp.int32)


def in_sequence(transitions: Transition) -> Transition:
    """A rollout `[T, num_envs]` as `[T * num_envs]` transitions, one after the other."""
    flat: Transition = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), transitions)
    return flat


def steps_of(transitions: Transition, num_states: int) -> Steps:
    """`[N]` transitions as steps between numbered states."""
    assert transitions.final_observation is not None
    has_ended = transitions.discount == 0.0
    return Steps(
        state=state_number(transitions.observation),
        action=transitions.action,
        reward=transitions.reward,
        next_state=jnp.where(has_ended, num_states, state_number(transitions.final_observation)),
    )
