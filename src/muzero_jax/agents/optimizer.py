"""AdamW whose learning rate, weight decay and clipping norm are traced.

The numbers arrive with every update, so that one compiled program can train members of a sweep that
differ in them.
"""

from typing import cast

import jax
import jax.numpy as jnp
import optax

from muzero_jax.agents.base import Hyperparameters
from muzero_jax.agents.settings import OptimizerConfig
from muzero_jax.core.types import Array, Params, PyTree


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


def init_optimizer(params: Params) -> PyTree:
    """The optimiser state of `params`."""
    return _OPTIMIZER.init(params)


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


def apply_gradient(
    params: Params,
    gradient: Params,
    state: PyTree,
    hyperparameters: Hyperparameters,
    factor: Array,
) -> tuple[Params, PyTree, Array]:
    """One step of AdamW with clipping by the global norm.

    Args:
      params: the parameters.
      gradient: the gradient, of the structure of `params`.
      state: the optimiser's state, from `init_optimizer` or the last step.
      hyperparameters: `optimizer.learning_rate`, `.weight_decay` and `.max_gradient_norm`.
      factor: `[]` share of the learning rate, from the schedule.

    Returns:
      The new parameters and state, and the `[]` norm of the gradient before clipping.
    """
    traced = {
        "learning_rate": factor * hyperparameters["optimizer.learning_rate"],
        "weight_decay": hyperparameters["optimizer.weight_decay"],
        "max_gradient_norm": hyperparameters["optimizer.max_gradient_norm"],
    }
    state = state._replace(hyperparams={k: jnp.asarray(v, jnp.float32) for k, v in traced.items()})
    update, state = _OPTIMIZER.update(gradient, state, params)
    norm = cast(Array, optax.tree.norm(gradient))
    return optax.apply_updates(params, update), state, norm
