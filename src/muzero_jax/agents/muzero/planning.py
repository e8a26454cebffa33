"""Acting by searching a model.

A planner does not learn. MuZero with networks and MuZero with tables differ in how their models
change, not in how they are searched.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import ActOutput, Agent, Moment, Unrolled
from muzero_jax.agents.exploration import sometimes_random
from muzero_jax.agents.muzero.true_model import TrueModel
from muzero_jax.core.types import Array, Params, PRNGKey, PyTree
from muzero_jax.envs.base import Environment
from muzero_jax.networks.model import MuZeroModel
from muzero_jax.search.policies import (
    RecurrentFn,
    RecurrentFnOutput,
    RootFnOutput,
    SearchNoise,
    SearchOutput,
    make_search,
)
from muzero_jax.search.settings import SearchConfig


class SearchRecord(struct.PyTreeNode):
    """What is stored of a search.

    Attributes:
      action_weights: `[B, A]` the improved policy.
      search_value: `[B]` the value of the root.
    """

    action_weights: Array
    search_value: Array


class SearchModel(Protocol):
    """What a planner searches: networks, or a table."""

    def root(self, params: Params, observation: Array) -> RootFnOutput:
        """The root of a search of `observation` (`[B, ...]`)."""
        ...

    def recurrent_fn(self, discount: Array | float) -> RecurrentFn:
        """The model as a search calls it, with the `[]` discount of a step that does not end."""
        ...

    def prepare(self, params: Params) -> Params:
        """Parameters that answer the same and faster, made once before each search."""
        return params


class NetworkSearchModel(SearchModel):
    """A `MuZeroModel` as a search calls it."""

    def __init__(self, model: MuZeroModel):
        self.model = model

    def root(self, params: Params, observation: Array) -> RootFnOutput:
        """The encoded observation `[B, ...]`, with its prior and value."""
        root = self.model.initial_inference(params, observation)
        return RootFnOutput(
            prior_logits=root.prior_logits, value=root.value, embedding=root.embedding
        )

    def recurrent_fn(self, discount: Array | float) -> RecurrentFn:
        """One step of the dynamics, whose discount is `discount` times the continuation."""

        def recurrent_fn(
            params: Params, rng_key: PRNGKey, action: Array, embedding: Array
        ) -> tuple[RecurrentFnOutput, Array]:
            del rng_key  # The model is deterministic.
            output = self.model.recurrent_inference(params, embedding, action)
            step = RecurrentFnOutput(
                reward=output.reward,
                discount=output.continuation * discount,
                prior_logits=output.prior_logits,
                value=output.value,
            )
            return step, output.embedding

        return recurrent_fn


class Planner:
    """Acts by searching a model; it holds no state.

    The states of its agents have the fields `params`, `hyperparameters` and `num_updates`.

    Args:
      model: the model that is searched.
      search: the settings of the search.
      num_updates: updates of the whole run, over which the temperature falls.
      env: the environment, with which the agent can act by searching the true model.
    """

    def __init__(
        self,
        model: SearchModel,
        search: SearchConfig,
        num_updates: int,
        env: Environment | None = None,
    ):
        self.model, self._env = model, env
        self._num_updates = num_updates
        self._decay = search.temperature_decay
        self._search = make_search(search)

    def as_agent(self, **learning: Any) -> Agent:
        """The agent that acts by searching; the other fields of the `Agent` are given."""
        greedy = {"search": self._act_greedily, "prior": self._act_by_prior}
        if self._env is not None:
            greedy["true_model"] = self._act_by_true_model
        return Agent(act=self._act, greedy=greedy, plan=self._plan, unroll=self._unroll, **learning)

    def fresh_search(
        self, state: PyTree, params: Params, rng_key: PRNGKey
    ) -> Callable[[Array, Array], tuple[Array, Array]]:
        """The function that searches without noise, for MuZero Reanalyze; see `targets.SearchFn`.

        Args:
          state: the agent's state, of which only the traced settings are read.
          params: the parameters of the model.
          rng_key: consumed.
        """

        def search(observation: Array, legal_action_mask: Array) -> tuple[Array, Array]:
            noise = SearchNoise.none()
            _, output = self._run(state, params, rng_key, observation, legal_action_mask, noise)
            return output.action_weights, output.search_value

        return search

    def _act(self, state: PyTree, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        """Acts by search with the root's noise, and now and then at random."""
        search_key, epsilon_key = jax.random.split(rng_key)
        output = self._act_by_search(state, search_key, moment, self._noise(state))
        epsilon = state.hyperparameters["search.epsilon"]
        legal = moment.timestep.legal_action_mask
        return output.replace(action=sometimes_random(epsilon_key, output.action, legal, epsilon))

    def _act_greedily(self, state: PyTree, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        search_key, _ = jax.random.split(rng_key)
        return self._act_by_search(state, search_key, moment, SearchNoise.none())

    def _act_by_prior(self, state: PyTree, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        """Takes the likeliest action of the root's prior, without any search."""
        del rng_key  # Nothing is random.
        root = self.model.root(state.params, moment.timestep.observation)
        lowest = jnp.finfo(root.prior_logits.dtype).min
        logits = jnp.where(moment.timestep.legal_action_mask, root.prior_logits, lowest)
        return ActOutput(action=jnp.argmax(logits, axis=-1).astype(jnp.int32), value=root.value)

    def _plan(self, state: PyTree, rng_key: PRNGKey, moment: Moment) -> SearchOutput:
        seen, legal = moment.timestep.observation, moment.timestep.legal_action_mask
        return self._run(state, state.params, rng_key, seen, legal, SearchNoise.none())[1]

    def _act_by_search(
        self, state: PyTree, search_key: PRNGKey, moment: Moment, noise: SearchNoise
    ) -> ActOutput:
        seen, legal = moment.timestep.observation, moment.timestep.legal_action_mask
        return _acted(*self._run(state, state.params, search_key, seen, legal, noise))

    def _act_by_true_model(self, state: PyTree, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        """Acts greedily by the same search of the environment itself, see `TrueModel`."""
        assert self._env is not None
        search_key, _ = jax.random.split(rng_key)
        discount = state.hyperparameters["target.discount"]
        model = TrueModel(self._env, self.model.root, discount, reward_unit(state))
        root, legal = model.root(state.params, moment), moment.timestep.legal_action_mask
        noise = SearchNoise.none()
        searched = self._search(state.params, search_key, root, model.recurrent_fn, legal, noise)
        return _acted(root, searched)

    def _unroll(self, state: PyTree, observation: Array, actions: Array) -> Unrolled:
        """What the model predicts along actions `[K, B]`, see `Agent.unroll`."""
        recurrent_fn, root = (
            self.model.recurrent_fn(1.0),
            self.model.root(state.params, observation),
        )
        params, rng_key = self.model.prepare(state.params), jax.random.key(0)

        def step(carry: PyTree, action: Array) -> tuple[PyTree, tuple[Array, Array]]:
            embedding, goes_on = carry
            output, embedding = recurrent_fn(params, rng_key, action, embedding)
            reward = jnp.where(goes_on, output.reward, 0.0)
            goes_on = goes_on & (output.discount != 0.0)
            return (embedding, goes_on), (reward, jnp.where(goes_on, output.value, 0.0))

        begin = root.embedding, jnp.ones(root.value.shape, bool)
        _, (reward, value) = jax.lax.scan(step, begin, actions)
        value = jnp.concatenate([root.value[None], value])
        return Unrolled(value=value * reward_unit(state), reward=reward * reward_unit(state))

    def _run(
        self,
        state: PyTree,
        params: Params,
        rng_key: PRNGKey,
        observation: Array,
        legal: Array,
        noise: SearchNoise,
    ) -> tuple[RootFnOutput, SearchOutput]:
        root = self.model.root(params, observation)
        recurrent_fn = self.model.recurrent_fn(state.hyperparameters["target.discount"])
        params = self.model.prepare(params)
        return root, self._search(params, rng_key, root, recurrent_fn, legal, noise)

    def _noise(self, state: PyTree) -> SearchNoise:
        """The search's exploration; the temperature falls over the run's updates."""
        h = state.hyperparameters
        progress = jnp.minimum(1.0, state.num_updates / max(self._num_updates, 1))
        start, end = h["search.temperature"], h["search.final_temperature"]
        temperature = start + progress * (end - start)
        if self._decay == "exponential":
            temperature = start * (end / start) ** progress
        names = ("gumbel_scale", "dirichlet_alpha", "dirichlet_fraction")
        return SearchNoise(temperature=temperature, **{n: h[f"search.{n}"] for n in names})


def reward_unit(state: PyTree) -> Array | float:
    """The rewards of the environment that one unit of the model's predictions stands for.

    This is the one place where predictions become rewards and values of the environment.
    """
    return getattr(state, "reward_unit", 1.0)


def _acted(root: RootFnOutput, output: SearchOutput) -> ActOutput:
    """What acting by a search gives, from its roots and its result."""
    return ActOutput(
        action=output.action,
        record=SearchRecord(output.action_weights, output.search_value),
        priority=jnp.abs(root.value - output.search_value),
        value=root.value,
        metrics={
            "search/value": output.search_value.mean(),
            "search/depth_mean": output.depth_mean.mean(),
            "search/depth_max": output.depth_max.max().astype(jnp.float32),
        },
    )
