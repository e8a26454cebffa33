"""The state of a learner of networks: parameters, their slow copy, and the optimiser."""

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import Hyperparameters
from muzero_jax.agents.optimizer import apply_gradient, init_optimizer, learning_rate_factor
from muzero_jax.agents.settings import OptimizerConfig
from muzero_jax.core.types import Array, Params, PyTree


class NetworkState(struct.PyTreeNode):
    """Everything that a learner of networks has learned.

    Attributes:
      params: the parameters of the networks.
      target_params: a slow copy of `params`; None for a learner without one.
      optimizer: the optimiser's state.
      hyperparameters: the traced settings, by dotted name.
      num_updates: `[]` int32, the updates so far.
    """

    params: Params
    target_params: Params | None
    optimizer: PyTree
    hyperparameters: Hyperparameters
    num_updates: Array

    @classmethod
    def fresh(
        cls, params: Params, hyperparameters: Hyperparameters, *, with_target: bool
    ) -> "NetworkState":
        """The state before the first update.

        Args:
          params: the first parameters.
          hyperparameters: the traced settings, by dotted name.
          with_target: whether to keep a slow copy of the parameters.
        """
        return cls(
            params=params,
            target_params=jax.tree.map(jnp.copy, params) if with_target else None,
            optimizer=init_optimizer(params),
            hyperparameters=jax.tree.map(jnp.float32, dict(hyperparameters)),
            num_updates=jnp.zeros((), jnp.int32),
        )

    def descended(
        self,
        gradient: Params,
        config: OptimizerConfig,
        total_updates: int,
        target_update_rate: Array | float = 0.0,
    ) -> tuple["NetworkState", Array]:
        """The state after one step of AdamW along a gradient, and the `[]` norm of the gradient.

        Args:
          gradient: the gradient of the loss, of the structure of `params`.
          config: the schedule of the learning rate; the traced numbers are those of the state.
          total_updates: updates of the whole run, where the schedule ends.
          target_update_rate: share of the new parameters that is mixed into the slow copy.
        """
        factor = learning_rate_factor(config, total_updates, self.num_updates)
        params, optimizer, norm = apply_gradient(
            self.params, gradient, self.optimizer, self.hyperparameters, factor
        )
        target_params = self.target_params
        if target_params is not None:
            target_params = jax.tree.map(
                lambda t, p: t + target_update_rate * (p - t), target_params, params
            )
        state = NetworkState(
            params, target_params, optimizer, self.hyperparameters, self.num_updates + 1
        )
        return state, norm
