"""What agents with a model share: acting by searching it.

A planner does not learn. MuZero with networks and MuZero with tables differ in how their models
change, not in how they are searched.
"""

from typing import Protocol

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import ActOutput, Hyperparameters
from muzero_jax.agents.exploration import sometimes_random
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.types import Array, Params, PRNGKey, TimeStep
from muzero_jax.envs.base import EnvironmentSpec
from muzero_jax.networks.factory import make_model
from muzero_jax.networks.model import MuZeroModel
from muzero_jax.search.policies import (
    RecurrentFn,
    RecurrentFnOutput,
    RootFnOutput,
    SearchNoise,
    SearchOutput,
    make_search,
)
from muzero_jax.search.row_model import NodeModel
from muzero_jax.tabular.table_model import make_table_model


class PlanningState(Protocol):
    """What a planner reads of an agent's state."""

    @property
    def params(self) -> Params:
        """Of the model."""
        ...

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Traced settings."""
        ...

    @property
    def num_updates(self) -> Array:
        """`[]` int32."""
        ...


class SearchRecord(struct.PyTreeNode):
    """What is stored of a search.

    Attributes:
      action_weights: `[B, A]` the improved policy.
      search_value: `[B]` the value of the root.
    """

    action_weights: Array
    search_value: Array


def make_muzero_model(config: ExperimentConfig, spec: EnvironmentSpec) -> MuZeroModel:
    """The networks, or the table, that `config` describes, for the observations of `spec`.

    Raises:
      ConfigError: they do not suit the observations.
    """
    if config.network.kind == "table":
        return make_table_model(config.table, spec)
    observation = jax.ShapeDtypeStruct(spec.observation_shape, jnp.dtype(spec.observation_dtype))
    return make_model(
        config.network,
        observation,
        spec.num_actions,
        use_projection=config.loss.consistency_weight > 0,
    )


class Planner:
    """Searches a model; it holds no state.

    Args:
      config: the settings.
      spec: of the environment.
      model: what is searched; the one that `config` describes where None.

    Raises (when constructed):
      ConfigError: the learner does not search, or its model does not suit the observations.
    """

    def __init__(
        self, config: ExperimentConfig, spec: EnvironmentSpec, model: MuZeroModel | None = None
    ):
        if config.agent.kind != "muzero":
            raise ConfigError(f"only agents of kind muzero search, not {config.agent.kind}.")
        self.model = model or make_muzero_model(config, spec)
        self.sign = -1.0 if spec.num_players == 2 else 1.0
        self._num_updates = config.num_updates
        self._decay = config.search.temperature_decay
        self._search = make_search(config.search)

    def root(self, params: Params, observation: Array) -> RootFnOutput:
        """The root of a search of `observation` (`[B, ...]`)."""
        root = self.model.initial_inference(params, observation)
        return RootFnOutput(
            prior_logits=root.prior_logits, value=root.value, embedding=root.embedding
        )

    def plan(self, state: PlanningState, rng_key: PRNGKey, timestep: TimeStep) -> SearchOutput:
        """The search of `timestep` (`[B, ...]`) as the agent acts without exploring."""
        return self.plan_with(
            state, state.params, rng_key, timestep.observation, timestep.legal_action_mask
        )

    def plan_with(
        self,
        state: PlanningState,
        params: Params,
        rng_key: PRNGKey,
        observation: Array,
        legal_action_mask: Array,
    ) -> SearchOutput:
        """The search of `[B, ...]` observations without noise, with given parameters."""
        root, noise = self.root(params, observation), SearchNoise.none()
        return self.search(state, params, rng_key, root, legal_action_mask, noise)

    def act(
        self, state: PlanningState, rng_key: PRNGKey, timestep: TimeStep, explore: bool
    ) -> ActOutput:
        """See `Agent.act`."""
        root = self.root(state.params, timestep.observation)
        noise = self._noise(state) if explore else SearchNoise.none()
        search_key, epsilon_key = jax.random.split(rng_key)
        legal = timestep.legal_action_mask
        output = self.search(state, state.params, search_key, root, legal, noise)
        action = output.action
        if explore:
            epsilon = state.hyperparameters["search.epsilon"]
            action = sometimes_random(epsilon_key, action, legal, epsilon)
        return ActOutput(
            action=action,
            record=SearchRecord(output.action_weights, output.search_value),
            priority=jnp.abs(root.value - output.search_value),
            value=root.value,
            metrics={
                "search/value": output.search_value.mean(),
                "search/depth_mean": output.depth_mean.mean(),
                "search/depth_max": output.depth_max.max().astype(jnp.float32),
            },
        )

    def search(
        self,
        state: PlanningState,
        params: Params,
        rng_key: PRNGKey,
        root: RootFnOutput,
        legal_action_mask: Array,
        noise: SearchNoise,
    ) -> SearchOutput:
        """A search of given roots with given parameters; only the settings are those of `state`."""
        recurrent_fn = self.recurrent_fn(state)
        params = self.model.prepare(params)
        return self._search(params, rng_key, root, recurrent_fn, legal_action_mask, noise)

    def recurrent_fn(self, state: PlanningState) -> RecurrentFn:
        """The model as a search calls it, with the discount of `state`."""
        discount = self.sign * state.hyperparameters["target.discount"]

        def recurrent_fn(
            params: Params, rng_key: PRNGKey, action: Array, embedding: Array
        ) -> tuple[RecurrentFnOutput, Array]:
            del rng_key  # The model is deterministic.
            output = self.model.recurrent_inference(params, embedding, action)
            step = RecurrentFnOutput(
                reward=output.reward,
                discount=jnp.full_like(output.reward, discount),
                prior_logits=output.prior_logits,
                value=output.value,
            )
            return step, output.embedding

        return NodeModel(recurrent_fn) if self.model.is_asked_node_by_node else recurrent_fn

    def _noise(self, state: PlanningState) -> SearchNoise:
        """The search's exploration; the temperature falls over the run's updates."""
        h = state.hyperparameters
        progress = jnp.minimum(1.0, state.num_updates / max(self._num_updates, 1))
        start, end = h["search.temperature"], h["search.final_temperature"]
        temperature = start + progress * (end - start)
        if self._decay == "exponential":
            temperature = start * (end / start) ** progress
        return SearchNoise(
            gumbel_scale=h["search.gumbel_scale"],
            dirichlet_alpha=h["search.dirichlet_alpha"],
            dirichlet_fraction=h["search.dirichlet_fraction"],
            temperature=temperature,
        )
