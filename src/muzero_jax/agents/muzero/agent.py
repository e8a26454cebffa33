"""MuZero as an `Agent`: act by searching the learned model, learn by unrolling it."""

import jax
import jax.numpy as jnp

from muzero_jax.agents.base import Agent, Hyperparameters, LearnOutput, Windows
from muzero_jax.agents.definition import Sizes
from muzero_jax.agents.muzero.losses import muzero_loss
from muzero_jax.agents.muzero.network_work import make_network_work
from muzero_jax.agents.muzero.planning import NetworkSearchModel, Planner
from muzero_jax.agents.muzero.settings import MuZeroSettings
from muzero_jax.agents.muzero.targets import (
    clipped_share,
    largest_size,
    make_targets,
    make_window_spec,
)
from muzero_jax.agents.network_state import NetworkState
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import Array, Params, PRNGKey
from muzero_jax.envs.base import Environment, EnvironmentSpec, require_discrete
from muzero_jax.networks.factory import make_model
from muzero_jax.networks.model import MuZeroModel
from muzero_jax.networks.model_checks import check_model
from muzero_jax.replay.buffer import Batch


def make_muzero(
    settings: MuZeroSettings, env: Environment, sizes: Sizes, model: MuZeroModel | None = None
) -> Agent:
    """Builds the agent.

    Args:
      settings: the settings of the agent.
      env: the environment; acting by its true model steps it, and all else reads its description.
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
    return _MuZero(settings, env, sizes, model).as_agent()


def make_muzero_model(settings: MuZeroSettings, spec: EnvironmentSpec) -> MuZeroModel:
    """The networks that MuZero's settings describe, for the observations of an environment.

    Raises:
      ConfigError: the networks do not suit the observations.
    """
    return make_model(
        settings.network,
        _observation(spec),
        spec.num_actions,
        num_players=spec.num_players,
        use_projection=settings.loss.consistency_weight > 0,
    )


def _observation(spec: EnvironmentSpec) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(spec.observation_shape, jnp.dtype(spec.observation_dtype))


class _MuZero:
    """The functions of the agent around their static parts; it holds no state."""

    def __init__(
        self, settings: MuZeroSettings, env: Environment, sizes: Sizes, model: MuZeroModel
    ):
        spec = env.spec
        self.settings, self.spec, self.sizes, self.model = settings, spec, sizes, model
        num_bins = check_model(model, _observation(spec), spec.num_actions)
        self.support = (num_bins - 1) // 2, model.support_spacing
        self.sign = -1.0 if spec.num_players == 2 else 1.0
        searched, num_updates = NetworkSearchModel(model), sizes.num_updates
        self.planner = Planner(searched, settings.search, num_updates, env)
        self.window = make_window_spec(
            settings.target, all_unrolled=settings.loss.consistency_weight > 0
        )

    def as_agent(self) -> Agent:
        return self.planner.as_agent(
            data=Windows(self.window, self.settings.replay),
            init=self.init,
            learn=self.learn,
            network_work=make_network_work(self.settings, self.spec, self.model, self.window),
        )

    def init(self, rng_key: PRNGKey, hyperparameters: Hyperparameters) -> NetworkState:
        with_target = self.settings.target.bootstrap == "target_network"
        params = self.model.init(rng_key)
        return NetworkState.fresh(params, hyperparameters, with_target=with_target)

    def learn(self, state: NetworkState, rng_key: PRNGKey, batch: Batch) -> LearnOutput:
        slow_params = state.params if state.target_params is None else state.target_params
        targets = make_targets(
            self.settings.target,
            self.window,
            batch.transitions,
            self.sign * state.hyperparameters["target.discount"],
            value_fn=lambda seen: self.planner.model.root(slow_params, seen).value,
            search_fn=self.planner.fresh_search(state, slow_params, rng_key),
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
        rate = self.settings.target.target_update_rate
        state, norm = state.descended(
            gradient, self.settings.optimizer, self.sizes.num_updates, rate
        )
        metrics |= {"gradient/norm": norm, **largest_size(targets)}
        return LearnOutput(state, metrics, priorities=error)
