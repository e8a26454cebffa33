"""Acting by action values, which the learners of action values share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.agents.base import ActOutput, Agent, Hyperparameters, Moment, Rollout
from muzero_jax.agents.exploration import RandomActions
from muzero_jax.agents.network_state import NetworkState, with_last_acting
from muzero_jax.agents.reward_unit import RewardUnit
from muzero_jax.agents.settings import OptimizerConfig
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import Params, PRNGKey, PyTree
from muzero_jax.envs.base import EnvironmentSpec, require_discrete
from muzero_jax.networks.q_networks import make_q_model
from muzero_jax.networks.settings import NetworkConfig


class QState(NetworkState, kw_only=True):
    """Everything that a learner of action values has learned.

    Attributes:
      reward_unit: the unit in which the network counts rewards and values.
    """

    reward_unit: RewardUnit


def make_q_state(
    params: Params,
    hyperparameters: Hyperparameters,
    optimizer: OptimizerConfig,
    reward_unit: float,
    *,
    with_target: bool = False,
) -> QState:
    """The state before the first update.

    Args:
      params: the first parameters.
      hyperparameters: the traced settings, by dotted name.
      optimizer: the settings of the optimiser, which say whether parameters are averaged.
      reward_unit: the unit of reward; 0 for one that is measured.
      with_target: whether to keep a slow copy of the parameters.
    """
    return QState.fresh(
        params,
        hyperparameters,
        with_target=with_target,
        with_average=optimizer.average_updates > 0,
        reward_unit=RewardUnit.fixed(reward_unit or 1.0),
    )


class QActing:
    """The network of action values, and acting by its best action; it holds no state.

    Args:
      name: the agent's name, for messages.
      network: the settings of the network.
      spec: the environment's description.
      average: averages over the shards of the run.
      **heads: the other arguments of `make_q_model`.

    Raises:
      ConfigError: the environment has several players or no numbered actions, or the network does
        not suit its observations.
    """

    def __init__(
        self,
        name: str,
        network: NetworkConfig,
        spec: EnvironmentSpec,
        average: Callable[[PyTree], PyTree],
        **heads: bool,
    ):
        require_discrete(spec, name)
        if spec.num_players > 1:
            raise ConfigError(
                f"{name} learns tasks of one player, and {spec.name} has {spec.num_players}."
            )
        observation = jax.ShapeDtypeStruct(
            spec.observation_shape, jnp.dtype(spec.observation_dtype)
        )
        self.model = make_q_model(network, observation, spec.num_actions, **heads)
        self._average, self._random = average, RandomActions()

    def as_agent(self, *, observes: bool, has_average: bool, **learning: Any) -> Agent:
        """The agent.

        Args:
          observes: whether the unit of reward is measured.
          has_average: whether the agent is evaluated with averaged parameters.
          **learning: the other fields of the `Agent`.
        """
        agent = Agent(
            act=self._act,
            greedy={"values": self._act_greedily},
            observe=self._observe if observes else None,
            **learning,
        )
        return with_last_acting(agent) if has_average else agent

    def _act(self, state: QState, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        """Acts by the parameters that are learned, and now and then at random."""
        output = self._act_by(state, state.params, moment)
        action, _ = self._random.act(rng_key, output.action, moment, state.hyperparameters)
        acted: ActOutput = output.replace(action=action)
        return acted

    def _act_greedily(self, state: QState, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        del rng_key  # Nothing is random.
        return self._act_by(state, state.evaluated_params, moment)

    def _act_by(self, state: QState, params: Params, moment: Moment) -> ActOutput:
        legal = moment.timestep.legal_action_mask
        values = self.model.qvalues(params, moment.timestep.observation)
        values = jnp.where(legal, values, -jnp.inf)
        action = jnp.argmax(values, axis=-1).astype(jnp.int32)
        return ActOutput(action=action, value=values.max(axis=-1) * state.reward_unit.size)

    def _observe(self, state: QState, rollout: Rollout) -> QState:
        """Measures the unit of reward."""
        discount = jnp.asarray(state.hyperparameters["target.discount"])
        unit = state.reward_unit.observed(rollout, discount, state.num_updates, self._average)
        observed: QState = state.replace(reward_unit=unit)
        return observed
