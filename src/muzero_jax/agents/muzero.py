"""MuZero as an `Agent`: act by searching the learned model, learn by unrolling it."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import ActOutput, Agent, Hyperparameters, LearnOutput
from muzero_jax.agents.losses import muzero_loss
from muzero_jax.agents.optimizer import apply_gradient, init_optimizer, learning_rate_factor
from muzero_jax.agents.targets import make_targets, make_window_spec
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.envs.base import EnvironmentSpec, random_legal_action
from muzero_jax.networks.factory import make_model
from muzero_jax.networks.model import MuZeroModel
from muzero_jax.replay.buffer import Batch
from muzero_jax.search.policies import (
    RecurrentFn,
    RecurrentFnOutput,
    RootFnOutput,
    Search,
    SearchNoise,
    SearchOutput,
    make_search,
)
from muzero_jax.types import Array, Params, PRNGKey, PyTree, TimeStep


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


class SearchRecord(struct.PyTreeNode):
    """What is stored of a search.

    Attributes:
      action_weights: `[B, A]` the improved policy.
      search_value: `[B]` the value of the root.
    """

    action_weights: Array
    search_value: Array


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
      ConfigError: the network does not suit the observations, or the consistency loss is asked of
        a model without projections.
    """
    model = model or make_muzero_model(config, spec)
    if config.loss.consistency_weight > 0 and model.project is None:
        raise ConfigError("loss.consistency_weight needs a model with projection heads.")
    return _MuZero(config, spec, model, average).as_agent()


def make_muzero_model(config: ExperimentConfig, spec: EnvironmentSpec) -> MuZeroModel:
    """The networks that `config.network` describes, for the observations of `spec`."""
    observation = jax.ShapeDtypeStruct(spec.observation_shape, jnp.dtype(spec.observation_dtype))
    return make_model(
        config.network,
        observation,
        spec.num_actions,
        use_projection=config.loss.consistency_weight > 0,
    )


@dataclasses.dataclass(frozen=True)
class Planner:
    """What acting searches, taken apart.

    Attributes:
      root: `(params, observation [B, ...])` to the root of a search.
      recurrent_fn: from an agent's state to the model that its search calls.
      search: the search itself, as the agent acts without exploring: `(state, rng_key, timestep)`.
    """

    root: Callable[[Params, Array], RootFnOutput]
    recurrent_fn: Callable[[MuZeroState], RecurrentFn]
    search: Callable[[MuZeroState, PRNGKey, TimeStep], SearchOutput]


def make_planner(config: ExperimentConfig, spec: EnvironmentSpec) -> Planner:
    """The search of the agent that `make_muzero` builds, for those who look at it or measure it."""
    agent = _MuZero(config, spec, make_muzero_model(config, spec))
    return Planner(agent.root, agent.recurrent_fn, agent.plan)


class _MuZero:
    """The functions of the agent around their static parts; it holds no state."""

    def __init__(
        self,
        config: ExperimentConfig,
        spec: EnvironmentSpec,
        model: MuZeroModel,
        average: Callable[[PyTree], PyTree] = lambda tree: tree,
    ):
        self.config, self.model, self.average = config, model, average
        self.search: Search = make_search(config.search)
        self.sign = -1.0 if spec.num_players == 2 else 1.0
        self.window = make_window_spec(
            config.target, all_unrolled=config.loss.consistency_weight > 0
        )

    def as_agent(self) -> Agent:
        return Agent(window=self.window, init=self.init, act=self.act, learn=self.learn)

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

    def root(self, params: Params, observation: Array) -> RootFnOutput:
        root = self.model.initial_inference(params, observation)
        return RootFnOutput(
            prior_logits=root.prior_logits, value=root.value, embedding=root.embedding
        )

    def plan(self, state: MuZeroState, rng_key: PRNGKey, timestep: TimeStep) -> SearchOutput:
        root = self.root(state.params, timestep.observation)
        legal = timestep.legal_action_mask
        return self._run_search(state, state.params, rng_key, root, legal, SearchNoise.none())

    def act(
        self, state: MuZeroState, rng_key: PRNGKey, timestep: TimeStep, explore: bool
    ) -> ActOutput:
        root = self.root(state.params, timestep.observation)
        noise = self._noise(state) if explore else SearchNoise.none()
        search_key, epsilon_key = jax.random.split(rng_key)
        legal = timestep.legal_action_mask
        output = self._run_search(state, state.params, search_key, root, legal, noise)
        action = output.action
        if explore:
            epsilon = state.hyperparameters["search.epsilon"]
            action = _sometimes_random(epsilon_key, action, legal, epsilon)
        return ActOutput(
            action=action,
            record=SearchRecord(output.action_weights, output.search_value),
            priority=jnp.abs(root.value - output.search_value),
            metrics={
                "search/value": output.search_value.mean(),
                "search/depth_mean": output.depth_mean.mean(),
                "search/depth_max": output.depth_max.max().astype(jnp.float32),
            },
        )

    def learn(self, state: MuZeroState, rng_key: PRNGKey, batch: Batch) -> LearnOutput:
        targets = make_targets(
            self.config.target,
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
                self.config.loss.consistency_weight,
                batch.transitions.observation,
                targets,
                batch.importance_weights,
            )

        gradient, (metrics, error) = jax.grad(loss, has_aux=True)(state.params)
        metrics |= {"target/value": targets.value[:, 0].mean()}
        gradient, metrics = self.average((gradient, metrics))
        state, norm = self._update(state, gradient)
        metrics |= {"gradient/norm": norm}
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
        return self.root(self._bootstrap_params(state), observation)

    def _fresh_search(
        self, state: MuZeroState, rng_key: PRNGKey, observation: Array, legal_action_mask: Array
    ) -> tuple[Array, Array]:
        """Policies and values of noise-free searches with the bootstrap's parameters."""
        root = self._bootstrap_root(state, observation)
        params = self._bootstrap_params(state)
        output = self._run_search(
            state, params, rng_key, root, legal_action_mask, SearchNoise.none()
        )
        return output.action_weights, output.search_value

    def _run_search(
        self,
        state: MuZeroState,
        params: Params,
        rng_key: PRNGKey,
        root: RootFnOutput,
        legal_action_mask: Array,
        noise: SearchNoise,
    ) -> SearchOutput:
        recurrent_fn = self.recurrent_fn(state)
        return self.search(params, rng_key, root, recurrent_fn, legal_action_mask, noise)

    def recurrent_fn(self, state: MuZeroState) -> RecurrentFn:
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

        return recurrent_fn

    def _noise(self, state: MuZeroState) -> SearchNoise:
        """The search's exploration; the temperature falls linearly over the run's updates."""
        h = state.hyperparameters
        progress = jnp.minimum(1.0, state.num_updates / max(self.config.num_updates, 1))
        start, end = h["search.temperature"], h["search.final_temperature"]
        return SearchNoise(
            gumbel_scale=h["search.gumbel_scale"],
            dirichlet_alpha=h["search.dirichlet_alpha"],
            dirichlet_fraction=h["search.dirichlet_fraction"],
            temperature=start + progress * (end - start),
        )


def _sometimes_random(
    rng_key: PRNGKey, action: Array, legal_action_mask: Array, epsilon: Array | float
) -> Array:
    """`[B]` actions, each replaced by a uniformly drawn legal one with probability `epsilon`."""
    choice_key, random_key = jax.random.split(rng_key)
    random_action = random_legal_action(random_key, legal_action_mask).astype(action.dtype)
    is_random = jax.random.uniform(choice_key, action.shape) < epsilon
    return jnp.where(is_random, random_action, action)
