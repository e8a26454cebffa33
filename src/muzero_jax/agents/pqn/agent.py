"""PQN as an `Agent`: Q-learning on whole rollouts, with no replay and no target network.

What keeps it stable is the normalisation of the network's layers (section 3 of the paper), which
the networks of this package have, and the lambda-returns of fresh steps.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from muzero_jax.agents.base import Agent, Hyperparameters, LearnOutput, Rollout, Rollouts
from muzero_jax.agents.definition import Sizes
from muzero_jax.agents.pqn.settings import PQNSettings
from muzero_jax.agents.q_acting import QActing, QState, make_q_state
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import Array, Params, PRNGKey, PyTree
from muzero_jax.envs.base import Environment
from muzero_jax.maths.returns import lambda_returns


def make_pqn(settings: PQNSettings, env: Environment, sizes: Sizes) -> Agent:
    """Builds the agent.

    Args:
      settings: the settings of the agent.
      env: the environment, of which only the description is read.
      sizes: the sizes of the run.

    Raises:
      ConfigError: the environment has several players or no numbered actions, the network does not
        suit its observations, or a rollout cannot be divided into the minibatches.
    """
    num_steps, parts = sizes.num_envs * sizes.rollout_length, settings.epochs.num_minibatches
    if num_steps % parts:
        raise ConfigError(
            f"a rollout of {num_steps} steps cannot be divided into epochs.num_minibatches {parts}."
        )
    return _PQN(settings, env, sizes).as_agent()


class _PQN:
    """The functions of the agent around their static parts; it holds no state."""

    def __init__(self, settings: PQNSettings, env: Environment, sizes: Sizes):
        self.settings, self.sizes = settings, sizes
        self.acting = QActing("pqn", settings.network, env.spec, sizes.average)
        self.num_steps = settings.epochs.number * settings.epochs.num_minibatches

    def as_agent(self) -> Agent:
        return self.acting.as_agent(
            data=Rollouts(),
            init=self.init,
            learn=self.learn,
            observes=self.settings.target.reward_unit == 0,
            has_average=self.settings.optimizer.average_updates > 0,
        )

    def init(self, rng_key: PRNGKey, hyperparameters: Hyperparameters) -> QState:
        return make_q_state(
            self.acting.model.init(rng_key),
            hyperparameters,
            self.settings.optimizer,
            self.settings.target.reward_unit,
        )

    def learn(self, state: QState, rng_key: PRNGKey, rollout: Rollout) -> LearnOutput:
        steps = rollout.transitions
        data = steps.observation, steps.action, self.returns(state, rollout)
        flat = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), data)
        keys = jax.random.split(rng_key, self.settings.epochs.number)
        order = jax.vmap(lambda key: jax.random.permutation(key, len(flat[1])))(keys)
        order = order.reshape((self.num_steps, -1))
        state, metrics = jax.lax.scan(functools.partial(self._descend, flat), state, order)
        metrics = jax.tree.map(lambda x: x.mean(), metrics)
        unit = state.reward_unit.size
        own = {"target/value": unit * data[2].mean(), "target/reward_unit": unit}
        return LearnOutput(state, {**metrics, **self.sizes.average(own)})

    def returns(self, state: QState, rollout: Rollout) -> Array:
        """`[T, B]` lambda-returns, in units of reward."""
        steps, final = rollout.transitions, rollout.timestep
        legal = jnp.concatenate([steps.legal_action_mask[1:], final.legal_action_mask[None]])
        seen = jnp.concatenate([steps.observation[1:], final.observation[None]])
        best = jax.vmap(functools.partial(self.acting.model.best_values, state.params))
        value_tp1 = best(seen, legal)
        if steps.final_observation is not None:
            # Which actions are legal after a time limit was not stored.
            value_tp1 = jax.lax.cond(
                steps.truncated.any(),
                lambda last: jnp.where(
                    steps.truncated, best(last, jnp.ones_like(legal)), value_tp1
                ),
                lambda _: value_tp1,
                steps.final_observation,
            )
        h = state.hyperparameters
        found = functools.partial(lambda_returns, td_lambda=h["target.td_lambda"])
        discount, reward = h["target.discount"] * steps.discount, steps.reward
        returns: Array = jax.vmap(found, in_axes=1, out_axes=1)(
            reward / state.reward_unit.size, discount, steps.truncated, value_tp1
        )
        return returns

    def _descend(self, data: PyTree, state: QState, rows: Array) -> tuple[QState, PyTree]:
        """One step of the optimiser on some rows of the rollout."""
        seen, action, target = jax.tree.map(lambda x: x[rows], data)

        def loss(params: Params) -> Array:
            values = self.acting.model.qvalues(params, seen)
            taken = jnp.take_along_axis(values, action[:, None], axis=-1)[:, 0]
            return jnp.mean(optax.l2_loss(taken, target))

        value, gradient = self.sizes.average(jax.value_and_grad(loss)(state.params))
        total = self.sizes.num_updates * self.num_steps
        state, norm = state.descended(gradient, self.settings.optimizer, total)
        return state, {"loss/total": value, "gradient/norm": norm}
