"""The state of a learner of networks: parameters, their slow copy, and AdamW.

The optimiser's numbers arrive with every update, so that one compiled program can train members of
a sweep that differ in them.
"""

import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp
import optax
from flax import struct

from muzero_jax.agents.base import ActOutput, Agent, Hyperparameters, Moment
from muzero_jax.agents.settings import OptimizerConfig
from muzero_jax.core.types import Array, Params, PRNGKey, PyTree


def _adamw(
    learning_rate: Array, weight_decay: Array, max_gradient_norm: Array
) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) after clipping by the global norm."""

    def clip(gradient: Params, params: Params | None) -> Params:
        del params
        share = jnp.minimum(1.0, max_gradient_norm / (optax.tree.norm(gradient) + 1e-12))
        return jax.tree.map(lambda g: g * share, gradient)

    return optax.chain(
        optax.stateless(clip),
        optax.scale_by_adam(),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


_OPTIMIZER = optax.inject_hyperparams(_adamw)(
    learning_rate=0.0, weight_decay=0.0, max_gradient_norm=1.0
)


class NetworkState(struct.PyTreeNode):
    """Everything that a learner of networks has learned.

    Attributes:
      params: the parameters of the networks.
      target_params: a slow copy of `params`; None for a learner without one.
      average_params: the average of `params` over the latest updates, which is evaluated; None for
        a learner that is evaluated with its last parameters.
      optimizer: the optimiser's state.
      hyperparameters: the traced settings, by dotted name.
      num_updates: `[]` int32, the updates so far.
    """

    params: Params
    target_params: Params | None
    optimizer: PyTree
    hyperparameters: Hyperparameters
    num_updates: Array
    average_params: Params | None = None

    @property
    def evaluated_params(self) -> Params:
        """The parameters of greedy acting: the average where there is one, or else the last."""
        return self.params if self.average_params is None else self.average_params

    def unaveraged(self) -> Self:
        """The state whose last parameters are evaluated in the place of their average, if any."""
        return self if self.average_params is None else self.replace(average_params=self.params)

    @classmethod
    def fresh(
        cls,
        params: Params,
        hyperparameters: Hyperparameters,
        *,
        with_target: bool,
        with_average: bool = False,
        **learned: Any,
    ) -> Self:
        """The state before the first update.

        Args:
          params: the first parameters.
          hyperparameters: the traced settings, by dotted name.
          with_target: whether to keep a slow copy of the parameters.
          with_average: whether to keep an average of the parameters for evaluations.
          **learned: the fields that a learner's own kind of state has beside those of this class.
        """
        return cls(
            params=params,
            target_params=jax.tree.map(jnp.copy, params) if with_target else None,
            average_params=jax.tree.map(jnp.copy, params) if with_average else None,
            optimizer=_OPTIMIZER.init(params),
            hyperparameters=jax.tree.map(jnp.float32, dict(hyperparameters)),
            num_updates=jnp.zeros((), jnp.int32),
            **learned,
        )

    def descended(
        self,
        gradient: Params,
        config: OptimizerConfig,
        total_updates: int,
        target_update_rate: Array | float = 0.0,
    ) -> tuple[Self, Array]:
        """The state after one step along a gradient, and the `[]` norm of the gradient.

        Args:
          gradient: the gradient of the loss, of the structure of `params`.
          config: the schedule of the learning rate; the traced numbers are those of the state.
          total_updates: updates of the whole run, where the schedule ends.
          target_update_rate: share of the new parameters that is mixed into the slow copy.
        """
        names = ("learning_rate", "weight_decay", "max_gradient_norm")
        traced = {name: self.hyperparameters[f"optimizer.{name}"] for name in names}
        factor = learning_rate_factor(config, total_updates, self.num_updates)
        traced["learning_rate"] = factor * traced["learning_rate"]
        optimizer = self.optimizer._replace(
            hyperparams={name: jnp.asarray(x, jnp.float32) for name, x in traced.items()}
        )
        update, optimizer = _OPTIMIZER.update(gradient, optimizer, self.params)
        params = optax.apply_updates(self.params, update)
        state = self.replace(
            params=params,
            target_params=_moved(self.target_params, params, target_update_rate),
            average_params=_moved(
                self.average_params, params, average_rate(config, self.num_updates)
            ),
            optimizer=optimizer,
            num_updates=self.num_updates + 1,
        )
        return state, jnp.asarray(optax.tree.norm(gradient))


def with_last_acting(agent: Agent) -> Agent:
    """Gives an agent that is evaluated with averaged parameters the way of acting `last`.

    It acts like the first greedy way of acting, with the last parameters. The agent's states are
    `NetworkState`s.
    """

    def act(state: NetworkState, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        return agent.act_greedily(state.unaveraged(), rng_key, moment)

    greedy = {**agent.greedy, "last": act}
    return dataclasses.replace(agent, greedy=greedy, unaveraged=NetworkState.unaveraged)


def _moved(slow: Params | None, params: Params, rate: Array | float) -> Params | None:
    """Slow parameters, if there are any, after the share `rate` of the new ones is mixed in."""
    if slow is None:
        return None
    return jax.tree.map(lambda s, p: s + rate * (p - s), slow, params)


def average_rate(config: OptimizerConfig, update: Array) -> Array:
    """The share of the new parameters in their average, `[]`.

    It begins at 1 and falls, so that the average is about over the last half of the updates until
    that half is as long as the settings ask.

    Args:
      config: the settings of the average.
      update: `[]` int32, the number of updates that were made before.
    """
    return jnp.maximum(1.0 / max(config.average_updates, 1), 2.0 / (update + 2.0))


def learning_rate_factor(config: OptimizerConfig, num_updates: int, update: Array) -> Array:
    """The share of the peak learning rate that the schedule gives to an update, `[]`.

    Args:
      config: the schedule.
      num_updates: updates of the whole run, where the schedule ends.
      update: `[]` int32, the number of updates that were made before.
    """
    warmup = min(config.warmup_updates, num_updates)
    rise = jnp.minimum(1.0, (update + 1) / max(warmup, 1))
    progress = jnp.clip((update - warmup) / max(num_updates - warmup, 1), 0.0, 1.0)
    decay = {
        "constant": jnp.ones(()),
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
    }[config.schedule]
    return rise * (config.final_fraction + (1.0 - config.final_fraction) * decay)
