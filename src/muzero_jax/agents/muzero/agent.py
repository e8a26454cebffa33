"""MuZero as an `Agent`: act by searching the learned model, learn by unrolling it."""

import jax
import jax.numpy as jnp

from muzero_jax.agents.base import Agent, Hyperparameters, LearnOutput, Windows
from muzero_jax.agents.definition import Sizes
from muzero_jax.agents.muzero.clipped_targets import clipped_share, largest_size
from muzero_jax.agents.muzero.losses import muzero_loss
from muzero_jax.agents.muzero.planning import NetworkSearchModel, Planner
from muzero_jax.agents.muzero.settings import MuZeroSettings
from muzero_jax.agents.muzero.targets import make_targets, make_window_spec
from muzero_jax.agents.network_state import NetworkState
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import Array, Params, PRNGKey
from muzero_jax.envs.base import Environment, EnvironmentSpec, require_discrete
from muzero_jax.networks.factory import make_model
from muzero_jax.networks.model import MuZeroModel
from muzero_jax.networks.model_checks import check_model
from muzero_jax.replay.buffer import Batch
from muzero_jax.search.policies import RootFnOutput


def make_muzero(
    settings: MuZeroSettings,
    env: Environment,
    sizes: Sizes,
    model: MuZeroModel | None = None,
) -> Agent:
    """Builds the agent.

    Args:
      settings: the settings of the agent.
      env: the environment, of which only the description is read.
      sizes: the sizes of the run.
      model: the networks; those that `settings.network` describes where None.

    Raises:
      ConfigError: the network does not suit the observations, the outputs of `model` have other
        shapes than they should have, or the consistency loss is asked of a model without
        projections.
    """
    require_discrete(env.spec, "muzero")
    model = model or make_muzero_model(settings, env.spec)
    if settings.loss.consistency_weight > 0 and model.project is None:
        raise ConfigError("loss.consistency_weight needs a model with projection heads.")
    return _MuZero(settings, env.spec, sizes, model).as_agent()


def make_muzero_model(settings: MuZeroSettings, spec: EnvironmentSpec) -> MuZeroModel:
    """The networks that MuZero's settings describe, for the observations of an environment.

    Args:
      settings: the settings of the agent.
      spec: the description of the environment.

    Raises:
      ConfigError: the networks do not suit the observations.
    """
    return make_model(
        settings.network,
        jax.ShapeDtypeStruct(spec.observation_shape, jnp.dtype(spec.observation_dtype)),
        spec.num_actions,
        num_players=spec.num_players,
        use_projection=settings.loss.consistency_weight > 0,
    )


class _MuZero:
    """The functions of the agent around their static parts; it holds no state."""

    def __init__(
        self, settings: MuZeroSettings, spec: EnvironmentSpec, sizes: Sizes, model: MuZeroModel
    ):
        self.settings, self.sizes, self.model = settings, sizes, model
        observation = jax.ShapeDtypeStruct(spec.observation_shape, spec.observation_dtype)
        num_bins = check_model(model, observation, spec.num_actions)
        self.support = (num_bins - 1) // 2, model.support_spacing
        self.sign = -1.0 if spec.num_players == 2 else 1.0
        self.planner = Planner(NetworkSearchModel(model), settings.search, sizes.num_updates)
        self.window = make_window_spec(
            settings.target, all_unrolled=settings.loss.consistency_weight > 0
        )

    def as_agent(self) -> Agent:
        return Agent(
            data=Windows(self.window, self.settings.replay),
            init=self.init,
            act=self.planner.act,
            greedy={"search": self.planner.act_greedily, "prior": self.planner.act_by_prior},
            learn=self.learn,
            plan=self.planner.plan,
        )

    def init(self, rng_key: PRNGKey, hyperparameters: Hyperparameters) -> NetworkState:
        with_target = self.settings.target.bootstrap == "target_network"
        return NetworkState.fresh(
            self.model.init(rng_key), hyperparameters, with_target=with_target
        )

    def learn(self, state: NetworkState, rng_key: PRNGKey, batch: Batch) -> LearnOutput:
        targets = make_targets(
            self.settings.target,
            self.window,
            batch.transitions,
            self.sign * state.hyperparameters["target.discount"],
            value_fn=lambda observation: self._bootstrap_root(state, observation).value,
            search_fn=lambda *roots: self._fresh_search(state, rng_key, *roots),
        )

        def loss(params: Params) -> tuple[Array, tuple[dict[str, Array], Array]]:
            return muzero_loss(
                self.model,
                params,
                state.hyperparameters,
                self.settings.loss.consistency_weight,
                batch.transitions.observation,
                targets,
                batch.importance_weights,
            )

        gradient, (metrics, error) = jax.grad(loss, has_aux=True)(state.params)
        metrics |= {"target/value": targets.value[:, 0].mean()}
        metrics |= clipped_share(targets, *self.support)
        gradient, metrics = self.sizes.average((gradient, metrics))
        state, norm = state.descended(
            gradient,
            self.settings.optimizer,
            self.sizes.num_updates,
            self.settings.target.target_update_rate,
        )
        metrics |= {"gradient/norm": norm, **largest_size(targets)}
        return LearnOutput(state, metrics, priorities=error)

    def _bootstrap_params(self, state: NetworkState) -> Params:
        return state.params if state.target_params is None else state.target_params

    def _bootstrap_root(self, state: NetworkState, observation: Array) -> RootFnOutput:
        return self.planner.model.root(self._bootstrap_params(state), observation)

    def _fresh_search(
        self, state: NetworkState, rng_key: PRNGKey, observation: Array, legal_action_mask: Array
    ) -> tuple[Array, Array]:
        """Policies and values of noise-free searches with the bootstrap's parameters."""
        params = self._bootstrap_params(state)
        output = self.planner.plan_with(state, params, rng_key, observation, legal_action_mask)
        return output.action_weights, output.search_value
