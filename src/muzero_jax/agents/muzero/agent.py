"""MuZero as an `Agent`: act by searching the learned model, learn by unrolling it."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from muzero_jax.agents.base import (
    ActFn,
    ActOutput,
    Agent,
    Hyperparameters,
    LearnOutput,
    Moment,
    Rollout,
    Windows,
)
from muzero_jax.agents.definition import Sizes
from muzero_jax.agents.explorer import Explorer, ExplorerState
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
from muzero_jax.agents.network_state import NetworkState, with_last_acting
from muzero_jax.agents.reward_unit import RewardUnit
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


class MuZeroState(NetworkState, kw_only=True):
    """Everything that MuZero has learned.

    Attributes:
      reward_unit: the unit in which the networks and the search count rewards and values.
      explorer: what is known of novelty; None where no environment acts for it.
    """

    reward_unit: RewardUnit
    explorer: ExplorerState | None = None


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
        self.planner = Planner(
            NetworkSearchModel(model),
            settings.search,
            sizes.num_updates,
            reward_unit=lambda state: state.reward_unit.size,
            env=env,
            longest_burst=settings.exploration.longest_burst,
        )
        num_explorers = math.ceil(settings.exploration.novelty_share * sizes.num_envs)
        self.explorer = None
        if num_explorers:
            shapes = _observation(spec), spec.num_actions
            self.explorer = Explorer(*shapes, num_explorers, sizes.average)
        self.window = make_window_spec(
            settings.target,
            all_unrolled=settings.loss.consistency_weight > 0,
            second=self.explorer is not None,
        )

    def as_agent(self) -> Agent:
        observes = self.settings.target.reward_unit == 0 or self.explorer is not None
        agent = self.planner.as_agent(
            data=Windows(self.window, self.settings.replay),
            init=self.init,
            learn=self.learn,
            observe=self.observe if observes else None,
            network_work=make_network_work(self.settings, self.spec, self.model, self.window),
        )
        if self.settings.optimizer.average_updates > 0:
            agent = with_last_acting(agent)
        if self.explorer is None:
            return agent
        return dataclasses.replace(agent, act=functools.partial(self.act, agent.act))

    def act(self, act: ActFn, state: MuZeroState, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        """Acts by search, and in some environments for novelty while the run is young."""
        assert self.explorer is not None and state.explorer is not None
        output = act(state, rng_key, moment)
        novel = functools.partial(self.explorer.act, state.explorer, moment=moment)
        action = jax.lax.cond(self._seeks_novelty(state), novel, lambda own: own, output.action)
        return output.replace(action=action)

    def _seeks_novelty(self, state: MuZeroState) -> Array:
        """Whether the explorers still act and learn, `[]` bool."""
        last = self.settings.exploration.novelty_until * self.sizes.num_updates
        return jnp.asarray(state.num_updates <= last)

    def init(self, rng_key: PRNGKey, hyperparameters: Hyperparameters) -> MuZeroState:
        explorer_key = jax.random.fold_in(rng_key, 1)
        return MuZeroState.fresh(
            self.model.init(rng_key),
            hyperparameters,
            with_target=self.settings.target.bootstrap == "target_network",
            with_average=self.settings.optimizer.average_updates > 0,
            reward_unit=RewardUnit.fixed(self.settings.target.reward_unit or 1.0),
            explorer=None if self.explorer is None else self.explorer.init(explorer_key),
        )

    def observe(self, state: MuZeroState, rollout: Rollout) -> MuZeroState:
        """Measures the unit of reward, and counts what was tried."""
        if self.settings.target.reward_unit == 0:
            discount, average = self._discount(state), self.sizes.average
            unit = state.reward_unit.observed(rollout, discount, state.num_updates, average)
            state = state.replace(reward_unit=unit)
        if self.explorer is not None and state.explorer is not None:
            counted = functools.partial(
                self.explorer.observed, rollout=rollout, num_updates=state.num_updates
            )
            state = self._while_novelty_counts(state, counted)
        return state

    def _learn_novelty(self, state: MuZeroState, batch: Batch) -> MuZeroState:
        if self.explorer is None or state.explorer is None:
            return state
        learned = functools.partial(self.explorer.learned, steps=batch.transitions)
        return self._while_novelty_counts(state, learned)

    def _while_novelty_counts(
        self, state: MuZeroState, change: Callable[[ExplorerState], ExplorerState]
    ) -> MuZeroState:
        """The state after a change of its explorer, which is left out once nobody explores."""
        goes_on = self._seeks_novelty(state)
        explorer = jax.lax.cond(goes_on, change, lambda old: old, state.explorer)
        changed: MuZeroState = state.replace(explorer=explorer)
        return changed

    def _discount(self, state: MuZeroState) -> Array:
        return self.sign * jnp.asarray(state.hyperparameters["target.discount"])

    def learn(self, state: MuZeroState, rng_key: PRNGKey, batch: Batch) -> LearnOutput:
        state = self._learn_novelty(state, batch)
        slow_params = state.params if state.target_params is None else state.target_params
        unit = state.reward_unit.size
        targets = make_targets(
            self.settings.target,
            self.window,
            batch.transitions.replace(reward=batch.transitions.reward / unit),
            self._discount(state),
            value_fn=lambda seen, legal: self.planner.model.root(slow_params, seen).value,
            search_fn=self.planner.fresh_search(state, slow_params, rng_key),
        )

        def loss(params: Params) -> tuple[Array, tuple[dict[str, Array], Array]]:
            return muzero_loss(
                self.model,
                params,
                state.hyperparameters,
                self.settings.loss,
                batch.transitions.observation,
                targets,
                batch.importance_weights,
            )

        gradient, (metrics, error) = jax.grad(loss, has_aux=True)(state.params)
        metrics |= {"target/value": unit * targets.value[:, 0].mean(), "target/reward_unit": unit}
        metrics |= clipped_share(targets, *self.support)
        gradient, metrics = self.sizes.average((gradient, metrics))
        rate = self.settings.target.target_update_rate
        state, norm = state.descended(
            gradient, self.settings.optimizer, self.sizes.num_updates, rate
        )
        metrics |= {"gradient/norm": norm, **largest_size(targets, unit)}
        return LearnOutput(state, metrics, priorities=error)
