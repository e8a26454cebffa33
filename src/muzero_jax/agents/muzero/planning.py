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
from muzero_jax.agents.exploration import RandomActions
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
      reward_unit: function of a state, the `[]` unit in which the model counts rewards and values.
      env: the environment, with which the agent can act by searching the true model.
      longest_burst: most steps of a burst of random actions.
    """

    def __init__(
        self,
        model: SearchModel,
        search: SearchConfig,
        num_updates: int,
        reward_unit: Callable[[PyTree], Array | float] = lambda state: 1.0,
        env: Environment | None = None,
        longest_burst: int = 1,
    ):
        self.model, self._env, self._reward_unit = model, env, reward_unit
        self._num_updates = num_updates
        self._decay = search.temperature_decay
        self._search = make_search(search)
        self._random = RandomActions(longest_burst)

    def as_agent(self, **learning: Any) -> Agent:
        """The agent that acts by searching; the other fields of the `Agent` are given."""
        greedy = {"search": self._act_greedily, "prior": self._act_by_prior}
        if self._env is not None:
            greedy["true_model"] = self._act_by_true_model
        return Agent(
            act=self._act,
            greedy=greedy,
            plan=self._plan,
            unroll=self._unroll,
            init_memory=self._random.init_memory,
            **learning,
        )

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
            power = state.hyperparameters["search.prior_power"]
            noise = SearchNoise.none().replace(prior_power=power)
            _, output = self._run(state, params, rng_key, observation, legal_action_mask, noise)
            return output.action_weights, output.search_value

        return search

    def _act(self, state: PyTree, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        """Acts by search with the root's noise, and now and then at random."""
        search_key, epsilon_key = jax.random.split(rng_key)
        output = self._act_by_search(state, state.params, search_key, moment, self._noise(state))
        action, memory = self._random.act(epsilon_key, output.action, moment, state.hyperparameters)
        return output.replace(action=action, memory=memory)

    def _act_greedily(self, state: PyTree, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        search_key, _ = jax.random.split(rng_key)
        noise = SearchNoise.none()
        return self._act_by_search(state, _evaluated(state), search_key, moment, noise)

    def _act_by_prior(self, state: PyTree, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        """Takes the likeliest action of the root's prior, without any search."""
        del rng_key  # Nothing is random.
        root = self.model.root(_evaluated(state), moment.timestep.observation)
        lowest = jnp.finfo(root.prior_logits.dtype).min
        logits = jnp.where(moment.timestep.legal_action_mask, root.prior_logits, lowest)
        action = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        value = root.value * self._reward_unit(state)
        return ActOutput(action=action, memory=moment.memory, value=value)

    def _plan(self, state: PyTree, rng_key: PRNGKey, moment: Moment) -> SearchOutput:
        seen, legal = moment.timestep.observation, moment.timestep.legal_action_mask
        noise = SearchNoise.none()
        _, output = self._run(state, _evaluated(state), rng_key, seen, legal, noise)
        return in_rewards(output, self._reward_unit(state))

    def _act_by_search(
        self,
        state: PyTree,
        params: Params,
        search_key: PRNGKey,
        moment: Moment,
        noise: SearchNoise,
    ) -> ActOutput:
        seen, legal = moment.timestep.observation, moment.timestep.legal_action_mask
        root, output = self._run(state, params, search_key, seen, legal, noise)
        return self._acted(state, moment, root, output)

    def _acted(
        self, state: PyTree, moment: Moment, root: RootFnOutput, output: SearchOutput
    ) -> ActOutput:
        """What acting by a search gives, from its roots and its result."""
        unit = self._reward_unit(state)
        return ActOutput(
            action=output.action,
            memory=moment.memory,
            record=SearchRecord(output.action_weights, output.search_value),
            priority=jnp.abs(root.value - output.search_value),
            value=root.value * unit,
            metrics={
                "search/value": output.search_value.mean() * unit,
                "search/depth_mean": output.depth_mean.mean(),
                "search/depth_max": output.depth_max.max().astype(jnp.float32),
            },
        )

    def _act_by_true_model(self, state: PyTree, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        """Acts greedily by the same search of the environment itself, see `TrueModel`."""
        assert self._env is not None
        search_key, _ = jax.random.split(rng_key)
        discount, params = state.hyperparameters["target.discount"], _evaluated(state)
        model = TrueModel(self._env, self.model.root, discount, self._reward_unit(state))
        root, legal = model.root(params, moment), moment.timestep.legal_action_mask
        noise = SearchNoise.none()
        searched = self._search(params, search_key, root, model.recurrent_fn, legal, noise)
        return self._acted(state, moment, root, searched)

    def _unroll(self, state: PyTree, observation: Array, actions: Array) -> Unrolled:
        """What the model predicts along actions `[K, B]`, see `Agent.unroll`."""
        params, unit, rng_key = _evaluated(state), self._reward_unit(state), jax.random.key(0)
        recurrent_fn, root = self.model.recurrent_fn(1.0), self.model.root(params, observation)
        params = self.model.prepare(params)

        def step(carry: PyTree, action: Array) -> tuple[PyTree, tuple[Array, Array]]:
            embedding, goes_on = carry
            output, embedding = recurrent_fn(params, rng_key, action, embedding)
            reward = jnp.where(goes_on, output.reward, 0.0)
            goes_on = goes_on & (output.discount != 0.0)
            return (embedding, goes_on), (reward, jnp.where(goes_on, output.value, 0.0))

        begin = root.embedding, jnp.ones(root.value.shape, bool)
        _, (reward, value) = jax.lax.scan(step, begin, actions)
        value = jnp.concatenate([root.value[None], value])
        return Unrolled(value=value * unit, reward=reward * unit)

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
        names = ("prior_power", "gumbel_scale", "dirichlet_alpha", "dirichlet_fraction")
        return SearchNoise(temperature=temperature, **{n: h[f"search.{n}"] for n in names})


def _evaluated(state: PyTree) -> Params:
    """The parameters that greedy acting uses: an average of them where the state has one."""
    return getattr(state, "evaluated_params", state.params)


def in_rewards(output: SearchOutput, unit: Array | float) -> SearchOutput:
    """A search's output with its values in the environment's rewards.

    Args:
      output: the output, whose values are measured in `unit`.
      unit: `[]` the unit.
    """
    tree = output.tree
    if tree is not None:
        names = ("node_values", "raw_values", "children_values", "children_rewards")
        tree = tree.replace(**{name: unit * getattr(tree, name) for name in names})
    return output.replace(search_value=unit * output.search_value, tree=tree)
