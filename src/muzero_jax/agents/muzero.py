"""MuZero as an `Agent`: act by searching the learned model, learn by unrolling it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import Agent, Hyperparameters, LearnOutput
from muzero_jax.agents.clipped_targets import clipped_share, largest_size
from muzero_jax.agents.losses import muzero_loss
from muzero_jax.agents.optimizer import apply_gradient, init_optimizer, learning_rate_factor
from muzero_jax.agents.planning import Planner, make_muzero_model
from muzero_jax.agents.targets import make_targets, make_window_spec
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.types import Array, Params, PRNGKey, PyTree
from muzero_jax.envs.base import EnvironmentSpec
from muzero_jax.networks.model import MuZeroModel
from muzero_jax.networks.model_checks import check_model
from muzero_jax.replay.buffer import Batch
from muzero_jax.search.policies import RootFnOutput


class MuZeroState(struct.PyTreeNode):
    """Everything MuZero learns.

    Attributes:
      params: of the model.
      target_params: slow copy of `params`; None where the bootstrap does not use one.
      optimizer: the optimiser's state.
      hyperparameters: traced settings.
      num_updates: `[]` int32.
    """

    params: Params
    target_params: Params | None
    optimizer: PyTree
    hyperparameters: Hyperparameters
    num_updates: Array


def make_muzero(
    config: ExperimentConfig,
    spec: EnvironmentSpec,
    model: MuZeroModel | None = None,
    average: Callable[[PyTree], PyTree] = lambda tree: tree,
) -> Agent:
    """Builds the agent.

    Args:
      config: the settings.
      spec: of the environment.
      model: the networks; those of `config.network` where None.
      average: of gradients and metrics, over those that learn together.

    Raises:
      ConfigError: the network does not suit the observations, the outputs of `model` have other
        shapes than they should have, or the consistency loss is asked of a model without
        projections.
    """
    model = model or make_muzero_model(config, spec)
    if config.loss.consistency_weight > 0 and model.project is None:
        raise ConfigError("loss.consistency_weight needs a model with projection heads.")
    return _MuZero(config, spec, model, average).as_agent()


class _MuZero:
    """The functions of the agent around their static parts; it holds no state."""

    def __init__(
        self,
        config: ExperimentConfig,
        spec: EnvironmentSpec,
        model: MuZeroModel,
        average: Callable[[PyTree], PyTree],
    ):
        self.config, self.model, self.average = config, model, average
        observation = jax.ShapeDtypeStruct(spec.observation_shape, spec.observation_dtype)
        num_bins = check_model(model, observation, spec.num_actions)
        assert model.support_spacing is not None  # `check_model` refuses a model of plain numbers.
        self.support = (num_bins - 1) // 2, model.support_spacing
        self.planner = Planner(config, spec, model)
        self.window = make_window_spec(
            config.target, all_unrolled=config.loss.consistency_weight > 0
        )

    def as_agent(self) -> Agent:
        return Agent(window=self.window, init=self.init, act=self.planner.act, learn=self.learn)

    def init(self, rng_key: PRNGKey, hyperparameters: Hyperparameters) -> MuZeroState:
        params = self.model.init(rng_key)
        uses_target = self.config.target.bootstrap == "target_network"
        return MuZeroState(
            params=params,
            target_params=jax.tree.map(jnp.copy, params) if uses_target else None,
            optimizer=init_optimizer(params),
            hyperparameters=jax.tree.map(jnp.float32, dict(hyperparameters)),
            num_updates=jnp.zeros((), jnp.int32),
        )

    def learn(self, state: MuZeroState, rng_key: PRNGKey, batch: Batch) -> LearnOutput:
        targets = make_targets(
            self.config.target,
            self.window,
            batch.transitions,
            self.planner.sign * state.hyperparameters["target.discount"],
            value_fn=lambda observation: self._bootstrap_root(state, observation).value,
            search_fn=lambda *roots: self._fresh_search(state, rng_key, *roots),
        )

        def loss(params: Params) -> tuple[Array, tuple[dict[str, Array], Array]]:
            return muzero_loss(
                self.model,
                params,
                state.hyperparameters,
                self.config.loss.consistency_weight,
                batch.transitions.observation,
                targets,
                batch.importance_weights,
            )

        gradient, (metrics, error) = jax.grad(loss, has_aux=True)(state.params)
        metrics |= {"target/value": targets.value[:, 0].mean()}
        metrics |= clipped_share(targets, *self.support)
        gradient, metrics = self.average((gradient, metrics))
        state, norm = self._update(state, gradient)
        metrics |= {"gradient/norm": norm, **largest_size(targets)}
        return LearnOutput(state, metrics, priorities=error)

    def _update(self, state: MuZeroState, gradient: Params) -> tuple[MuZeroState, Array]:
        factor = learning_rate_factor(
            self.config.optimizer, self.config.num_updates, state.num_updates
        )
        params, optimizer, norm = apply_gradient(
            state.params, gradient, state.optimizer, state.hyperparameters, factor
        )
        rate, target_params = self.config.target.target_update_rate, state.target_params
        if target_params is not None:
            target_params = jax.tree.map(lambda t, p: t + rate * (p - t), target_params, params)
        state = state.replace(
            params=params,
            target_params=target_params,
            optimizer=optimizer,
            num_updates=state.num_updates + 1,
        )
        return state, norm

    def _bootstrap_params(self, state: MuZeroState) -> Params:
        return state.params if state.target_params is None else state.target_params

    def _bootstrap_root(self, state: MuZeroState, observation: Array) -> RootFnOutput:
        return self.planner.root(self._bootstrap_params(state), observation)

    def _fresh_search(
        self, state: MuZeroState, rng_key: PRNGKey, observation: Array, legal_action_mask: Array
    ) -> tuple[Array, Array]:
        """Policies and values of noise-free searches with the bootstrap's parameters."""
        params = self._bootstrap_params(state)
        output = self.planner.plan_with(state, params, rng_key, observation, legal_action_mask)
        return output.action_weights, output.search_value
