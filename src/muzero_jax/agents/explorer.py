"""Environments that act for novelty alone: a small Q-learner of what was seldom tried.

A share of the environments acts by the values of this learner, whose rewards are bonuses for pairs
of state and action by their counts (`agents.novelty`); the others act as their agent does. So the
replay sees what the agent would not have tried, and the agent's own values stay those of the task
(Never Give Up, Badia et al. 2020, arXiv 2002.06038, has such a family of policies).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from muzero_jax.agents.base import Moment, Rollout
from muzero_jax.agents.definition import unchanged
from muzero_jax.agents.novelty import Novelty, VisitCounts
from muzero_jax.core.types import Array, Params, PRNGKey, PyTree, Transition

_DISCOUNT = 0.97
_TARGET_RATE = 0.01
_OPTIMIZER = optax.adam(1e-3)


class ExplorerState(struct.PyTreeNode):
    """What is known of novelty.

    Attributes:
      visits: how often everything was tried.
      params: the parameters of the values.
      target_params: a slow copy of them.
      optimizer: the optimiser's state.
    """

    visits: VisitCounts
    params: Params
    target_params: Params
    optimizer: PyTree


class _Values(nn.Module):
    """`[B, ...]` observations to the `[B, A]` values of novelty that lie behind each action."""

    num_actions: int

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        x = observation.reshape((len(observation), -1)).astype(jnp.float32)
        for _ in range(2):
            x = nn.relu(nn.LayerNorm()(nn.Dense(64)(x)))
        return nn.Dense(self.num_actions, kernel_init=nn.initializers.zeros)(x)


@dataclasses.dataclass(frozen=True)
class Explorer:
    """The functions of the learner; it holds no state.

    Attributes:
      observation: shape and dtype of one observation.
      num_actions: `A`.
      num_envs: environments that act for novelty, the first ones.
      average: averages counts and gradients over the shards of the run.
    """

    observation: jax.ShapeDtypeStruct
    num_actions: int
    num_envs: int
    average: Callable[[PyTree], PyTree] = unchanged

    @property
    def _novelty(self) -> Novelty:
        return Novelty(self.observation)

    def init(self, rng_key: PRNGKey) -> ExplorerState:
        """The state before anything was seen. The `rng_key` is consumed."""
        dummy = jnp.zeros((1, *self.observation.shape), self.observation.dtype)
        params = _Values(self.num_actions).init(rng_key, dummy)
        return ExplorerState(
            visits=self._novelty.init(),
            params=params,
            target_params=jax.tree.map(jnp.copy, params),
            optimizer=_OPTIMIZER.init(params),
        )

    def observed(self, state: ExplorerState, rollout: Rollout, num_updates: Array) -> ExplorerState:
        """The state after one more rollout was counted.

        Args:
          state: what is known of novelty.
          rollout: the rollout.
          num_updates: `[]` int32, the updates that were made before.
        """
        visits = self._novelty.observed(state.visits, rollout, num_updates, self.average)
        return state.replace(visits=visits)

    def act(self, state: ExplorerState, action: Array, moment: Moment) -> Array:
        """`[B]` actions, of which the first `num_envs` are the most novel legal ones.

        Args:
          state: what is known of novelty.
          action: `[B]` int32, the actions of the agent.
          moment: what acting looks at.
        """
        seen = moment.timestep.observation[: self.num_envs]
        legal = moment.timestep.legal_action_mask[: self.num_envs]
        values = self._values(state, state.params, seen)
        novel = jnp.argmax(jnp.where(legal, values, -jnp.inf), axis=-1)
        return action.at[: self.num_envs].set(novel.astype(action.dtype))

    def learned(self, state: ExplorerState, steps: Transition) -> ExplorerState:
        """The state after one update of Q-learning (Watkins 1989) from the first steps of windows.

        Args:
          state: what is known of novelty.
          steps: windows `[N, L, ...]`, whose first two observations are those of the first two
            rows.
        """
        seen, following = steps.observation[:, 0], steps.observation[:, 1]
        values = self._values(state, state.target_params, following)
        best = jnp.where(steps.legal_action_mask[:, 1], values, -jnp.inf).max(axis=-1)
        target = _DISCOUNT * steps.discount[:, 0] * jnp.where(jnp.isfinite(best), best, 0.0)
        is_known = ~steps.truncated[:, 0]

        def loss(params: Params) -> Array:
            found: Any = _Values(self.num_actions).apply(params, seen)
            taken = jnp.take_along_axis(found, steps.action[:, :1], axis=1)[:, 0]
            return jnp.mean(is_known * optax.huber_loss(taken, target))

        gradient = self.average(jax.grad(loss)(state.params))
        update, optimizer = _OPTIMIZER.update(gradient, state.optimizer)
        params = optax.apply_updates(state.params, update)
        slow = optax.incremental_update(params, state.target_params, _TARGET_RATE)
        return state.replace(params=params, target_params=slow, optimizer=optimizer)

    def _values(self, state: ExplorerState, params: Params, observation: Array) -> Array:
        """`[B, A]` bonuses of the actions and the novelty that lies behind them."""
        cell = self._novelty.cell(state.visits, observation)[:, None]
        bonus = self._novelty.bonus(state.visits, cell, jnp.arange(self.num_actions)[None])
        behind: Any = _Values(self.num_actions).apply(params, observation)
        return bonus + behind
