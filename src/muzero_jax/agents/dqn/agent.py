"""DQN as an `Agent`: act by the best action value, learn from replayed windows."""

import functools

import jax

from muzero_jax.agents.base import Agent, Hyperparameters, LearnOutput, Windows
from muzero_jax.agents.definition import Sizes
from muzero_jax.agents.dqn.losses import dqn_loss, make_q_targets, make_window_spec
from muzero_jax.agents.dqn.settings import DQNSettings
from muzero_jax.agents.q_acting import QActing, QState, make_q_state
from muzero_jax.core.types import Array, Metrics, Params, PRNGKey
from muzero_jax.envs.base import Environment
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
    return _DQN(settings, env, sizes).as_agent()


class _DQN:
    """The functions of the agent around their static parts; it holds no state."""

    def __init__(self, settings: DQNSettings, env: Environment, sizes: Sizes):
        self.settings, self.sizes = settings, sizes
        self.acting = QActing(
            "dqn",
            settings.network,
            env.spec,
            sizes.average,
            categorical=settings.qvalue.categorical,
            dueling=settings.qvalue.dueling,
            unrolls=settings.num_unroll_steps > 0,
        )
        self.model, self.window = self.acting.model, make_window_spec(settings)
        self.has_target = settings.target.target_update_rate < 1

    def as_agent(self) -> Agent:
        return self.acting.as_agent(
            data=Windows(self.window, self.settings.replay),
            init=self.init,
            learn=self.learn,
            observes=self.settings.target.reward_unit == 0,
            has_average=self.settings.optimizer.average_updates > 0,
        )

    def init(self, rng_key: PRNGKey, hyperparameters: Hyperparameters) -> QState:
        return make_q_state(
            self.model.init(rng_key),
            hyperparameters,
            self.settings.optimizer,
            self.settings.target.reward_unit,
            with_target=self.has_target,
        )

    def learn(self, state: QState, rng_key: PRNGKey, batch: Batch) -> LearnOutput:
        del rng_key  # Nothing is random.
        steps, unit = batch.transitions, state.reward_unit.size
        slow_params = state.params if state.target_params is None else state.target_params
        choosing = state.params if self.settings.target.double and self.has_target else None
        targets = make_q_targets(
            self.settings,
            self.window,
            steps.replace(reward=steps.reward / unit),
            state.hyperparameters["target.discount"],
            functools.partial(self.model.best_values, slow_params, choosing=choosing),
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
        rate = self.settings.target.target_update_rate
        state, norm = state.descended(
            gradient, self.settings.optimizer, self.sizes.num_updates, rate
        )
        return LearnOutput(state, {**metrics, "gradient/norm": norm}, priorities=error)
