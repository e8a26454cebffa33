"""AdamW whose learning rate, weight decay and clipping norm are traced.

optax's own wrappers bake these numbers into the transformation; here they arrive with every update,
so that one compiled program can train members that differ in them.
"""

from typing import cast

import jax
import jax.numpy as jnp
import optax

from muzero_jax.agents.base import Hyperparameters
from muzero_jax.config import OptimizerConfig
from muzero_jax.core.types import Array, Params, PyTree

_ADAM = optax.scale_by_adam()


def init_optimizer(params: Params) -> PyTree:
    """The optimiser state of `params`."""
    return _ADAM.init(params)


def learning_rate_factor(config: OptimizerConfig, num_updates: int, update: Array) -> Array:
    """`[]` share of the peak learning rate at `update` (`[]` int32) of `num_updates`."""
    warmup = min(config.warmup_updates, num_updates)
    rise = jnp.minimum(1.0, (update + 1) / max(warmup, 1))
    progress = jnp.clip((update - warmup) / max(num_updates - warmup, 1), 0.0, 1.0)
    decay = {
        "constant": jnp.ones(()),
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
    }[config.schedule]
    return rise * (config.final_fraction + (1.0 - config.final_fraction) * decay)


def apply_gradient(
    params: Params,
    gradient: Params,
    state: PyTree,
    hyperparameters: Hyperparameters,
    factor: Array,
) -> tuple[Params, PyTree, Array]:
    """One step of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with global-norm clipping.

    Args:
      params: the parameters.
      gradient: of the same structure.
      state: from `init_optimizer`.
      hyperparameters: `optimizer.learning_rate`, `.weight_decay` and `.max_gradient_norm`.
      factor: `[]` share of the learning rate, from the schedule.

    Returns:
      The new parameters and state, and the `[]` norm of the gradient before clipping.
    """
    norm = optax.tree.norm(gradient)
    clip = jnp.minimum(1.0, hyperparameters["optimizer.max_gradient_norm"] / (norm + 1e-12))
    gradient = jax.tree.map(lambda g: g * clip, gradient)
    direction, state = _ADAM.update(gradient, state)
    learning_rate = factor * hyperparameters["optimizer.learning_rate"]
    weight_decay = hyperparameters["optimizer.weight_decay"]
    params = jax.tree.map(
        lambda p, d: p - learning_rate * (d + weight_decay * p), params, direction
    )
    return params, state, cast(Array, norm)
