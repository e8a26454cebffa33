"""The environment itself in the place of the learned dynamics of a search.

The same parameters and the same search, with true states and rewards: what an agent gains by it is
what the errors of its learned dynamics cost.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import Moment
from muzero_jax.core.keys import from_numbers, is_key
from muzero_jax.core.types import Array, Params, PRNGKey, PyTree
from muzero_jax.envs.base import Environment
from muzero_jax.maths.rows import choose_rows
from muzero_jax.search.policies import RecurrentFnOutput, RootFnOutput


class SimulatedState(struct.PyTreeNode):
    """A node of a tree over true states.

    Attributes:
      env_state: `[B, ...]` states of the environment, whose random keys are stored as numbers.
      to_play: `[B]` int32, the players who move next.
      discount: `[B]` 0 where the episode has terminated, 1 elsewhere.
      truncated: `[B]` bool, whether a time limit has ended the episode.
      prior_logits: `[B, A]` logits of the prior; illegal actions have the lowest number.
      value: `[B]` values; 0 where the episode has terminated.
    """

    env_state: PyTree
    to_play: Array
    discount: Array
    truncated: Array
    prior_logits: Array
    value: Array


@dataclasses.dataclass(frozen=True)
class TrueModel:
    """A simulator as a search calls it.

    Priors and values of all nodes are those of the encoded true observations. A state whose episode
    has terminated is absorbing and worth nothing. One whose episode a time limit has ended is a
    leaf: all of its actions lead back to it, for nothing and without a discount, so that they are
    worth its value. Where the environment is stochastic, an edge of the tree holds one drawn
    outcome.

    Attributes:
      env: one environment, neither batched nor auto-resetting.
      evaluate: `(params, observation [B, ...]) -> RootFnOutput`, the networks.
      discount: `[]` discount of one step.
      reward_unit: `[]` rewards of the environment that one unit of the networks' values stands for.
    """

    env: Environment
    evaluate: Callable[[Params, Array], RootFnOutput]
    discount: Array | float
    reward_unit: Array | float = 1.0

    def root(self, params: Params, moment: Moment) -> RootFnOutput:
        """The roots of a search of `moment` (`[B, ...]`), whose embeddings are true states."""
        timestep = moment.timestep
        found = self.evaluate(params, timestep.observation)
        state = SimulatedState(
            env_state=jax.tree.map(_as_numbers, moment.env_state),
            to_play=timestep.to_play,
            discount=jnp.ones_like(found.value),
            truncated=jnp.zeros(timestep.to_play.shape, bool),
            prior_logits=found.prior_logits,
            value=found.value,
        )
        root: RootFnOutput = found.replace(embedding=state)
        return root

    def recurrent_fn(
        self, params: Params, rng_key: PRNGKey, action: Array, embedding: SimulatedState
    ) -> tuple[RecurrentFnOutput, SimulatedState]:
        """Steps the environment and evaluates what it shows then.

        Args:
          params: parameters of the networks.
          rng_key: consumed.
          action: `[B]` int32, one action each.
          embedding: the nodes that are left.
        """
        before, keys = embedding, jax.random.split(rng_key, action.shape[0])
        shapes, _ = jax.eval_shape(self.env.reset, rng_key)
        env_state = jax.tree.map(from_numbers, before.env_state, shapes)
        env_state, timestep = jax.vmap(self.env.step)(keys, env_state, action)
        found = self.evaluate(params, timestep.observation)
        lowest = jnp.finfo(found.prior_logits.dtype).min
        after = SimulatedState(
            env_state=jax.tree.map(_as_numbers, env_state),
            to_play=timestep.to_play,
            discount=timestep.discount,
            truncated=timestep.truncated,
            prior_logits=jnp.where(timestep.legal_action_mask, found.prior_logits, lowest),
            value=jnp.where(timestep.discount == 0.0, 0.0, found.value),
        )
        has_ended = (before.discount == 0.0) | before.truncated
        after = choose_rows(has_ended, before, after)
        reward = jnp.take_along_axis(timestep.reward, before.to_play[:, None], axis=1)[:, 0]
        sign = jnp.where(timestep.to_play == before.to_play, 1.0, -1.0)
        step = RecurrentFnOutput(
            reward=jnp.where(has_ended, 0.0, reward / self.reward_unit),
            discount=jnp.where(
                has_ended, before.discount, sign * self.discount * timestep.discount
            ),
            prior_logits=after.prior_logits,
            value=after.value,
        )
        return step, after


def _as_numbers(x: Any) -> Array:
    """An array that a tree can store: random keys become their data."""
    return jax.random.key_data(x) if is_key(x) else jnp.asarray(x)
