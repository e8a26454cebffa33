"""DQN as an `Agent`: act by the best action value, learn from replayed windows."""

import jax
import jax.numpy as jnp

from muzero_jax.agents.base import (
    ActOutput,
    Agent,
    Hyperparameters,
    LearnOutput,
    Moment,
    Rollout,
    Windows,
)
from muzero_jax.agents.definition import Sizes
from muzero_jax.agents.dqn.losses import best_values, dqn_loss, make_q_targets, make_window_spec
from muzero_jax.agents.dqn.settings import DQNSettings
from muzero_jax.agents.exploration import RandomActions
from muzero_jax.agents.network_state import NetworkState, with_last_acting
from muzero_jax.agents.reward_unit import RewardUnit
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import Array, Metrics, Params, PRNGKey
from muzero_jax.envs.base import Environment, require_discrete
from muzero_jax.networks.q_networks import make_q_model
from muzero_jax.replay.buffer import Batch


def make_dqn(settings: DQNSettings, env: Environment, sizes: Sizes) -> Agent:
    """Builds the agent.

    Args:
      settings: the settings of the agent.
      env: the environment, of which only the description is read.
      sizes: the sizes of the run.

    Raises:
      ConfigError: the environment has several players or no numbered actions, or the network does
        not suit its observations.
    """
    require_discrete(env.spec, "dqn")
    if env.spec.num_players > 1:
        raise ConfigError(
            f"dqn learns tasks of one player, and {env.spec.name} has {env.spec.num_players}."
        )
    return _DQN(settings, env, sizes).as_agent()


class DQNState(NetworkState, kw_only=True):
    """Everything that DQN has learned.

    Attributes:
      reward_unit: the unit in which the network counts rewards and values.
    """

    reward_unit: RewardUnit


class _DQN:
    """The functions of the agent around their static parts; it holds no state."""

    def __init__(self, settings: DQNSettings, env: Environment, sizes: Sizes):
        self.settings, self.sizes, spec = settings, sizes, env.spec
        self.model = make_q_model(
            settings.network,
            jax.ShapeDtypeStruct(spec.observation_shape, jnp.dtype(spec.observation_dtype)),
            spec.num_actions,
            categorical=settings.qvalue.categorical,
            dueling=settings.qvalue.dueling,
            unrolls=settings.num_unroll_steps > 0,
        )
        self.window, self.random = make_window_spec(settings), RandomActions()

    def as_agent(self) -> Agent:
        agent = Agent(
            data=Windows(self.window, self.settings.replay),
            init=self.init,
            act=self.act,
            greedy={"values": self.act_greedily},
            learn=self.learn,
            observe=self.observe if self.settings.target.reward_unit == 0 else None,
        )
        has_average = self.settings.optimizer.average_updates > 0
        return with_last_acting(agent) if has_average else agent

    def init(self, rng_key: PRNGKey, hyperparameters: Hyperparameters) -> DQNState:
        return DQNState.fresh(
            self.model.init(rng_key),
            hyperparameters,
            with_target=self.settings.target.target_update_rate < 1,
            with_average=self.settings.optimizer.average_updates > 0,
            reward_unit=RewardUnit.fixed(self.settings.target.reward_unit or 1.0),
        )

    def act(self, state: DQNState, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        """Acts by the parameters that are learned, and now and then at random."""
        output = self._act(state, state.params, moment)
        action, _ = self.random.act(rng_key, output.action, moment, state.hyperparameters)
        return output.replace(action=action)

    def act_greedily(self, state: DQNState, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        del rng_key  # Nothing is random.
        return self._act(state, state.evaluated_params, moment)

    def _act(self, state: DQNState, params: Params, moment: Moment) -> ActOutput:
        legal = moment.timestep.legal_action_mask
        values = self.model.qvalues(params, moment.timestep.observation)
        values = jnp.where(legal, values, -jnp.inf)
        action = jnp.argmax(values, axis=-1).astype(jnp.int32)
        return ActOutput(action=action, value=values.max(axis=-1) * state.reward_unit.size)

    def observe(self, state: DQNState, rollout: Rollout) -> DQNState:
        """Measures the unit of reward."""
        discount = jnp.asarray(state.hyperparameters["target.discount"])
        unit = state.reward_unit.observed(rollout, discount, state.num_updates, self.sizes.average)
        return state.replace(reward_unit=unit)

    def learn(self, state: DQNState, rng_key: PRNGKey, batch: Batch) -> LearnOutput:
        del rng_key  # Nothing is random.
        steps, unit = batch.transitions, state.reward_unit.size
        slow_params = state.params if state.target_params is None else state.target_params
        double = self.settings.target.double and state.target_params is not None
        targets = make_q_targets(
            self.settings,
            self.window,
            steps.replace(reward=steps.reward / unit),
            state.hyperparameters["target.discount"],
            lambda seen, legal: best_values(
                self.model, state.params, slow_params, double, seen, legal
            ),
        )

        def loss(params: Params) -> tuple[Array, tuple[Metrics, Array]]:
            return dqn_loss(
                self.model,
                params,
                state.hyperparameters,
                self.settings,
                steps.observation[:, 0],
                targets,
                batch.importance_weights,
            )

        gradient, (metrics, error) = jax.grad(loss, has_aux=True)(state.params)
        metrics |= {"target/value": unit * targets.value[:, 0].mean(), "target/reward_unit": unit}
        gradient, metrics = self.sizes.average((gradient, metrics))
        state, norm = state.descended(
            gradient,
            self.settings.optimizer,
            self.sizes.num_updates,
            self.settings.target.target_update_rate,
        )
        return LearnOutput(state, {**metrics, "gradient/norm": norm}, priorities=error)
