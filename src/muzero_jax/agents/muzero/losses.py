"""MuZero's K-step unrolled loss (arXiv 1911.08265, equation 1 and appendix G)."""

import functools

import chex
import jax
import jax.numpy as jnp
import optax

from muzero_jax.agents.base import Hyperparameters
from muzero_jax.agents.muzero.settings import LossConfig
from muzero_jax.agents.muzero.targets import Targets
from muzero_jax.core.types import Array, Metrics, Params
from muzero_jax.maths.value_support import scalar_to_support, support_to_scalar
from muzero_jax.networks.model import MuZeroModel


def muzero_loss(
    model: MuZeroModel,
    params: Params,
    hyperparameters: Hyperparameters,
    settings: LossConfig,
    observation: Array,
    targets: Targets,
    importance_weights: Array,
) -> tuple[Array, tuple[Metrics, Array]]:
    """The loss of one batch.

    The root counts 1 and the K unrolled states together `loss.unrolled_weight`, so that the loss
    does not grow with K.
    The entropy of the prior over legal actions is subtracted (as in A3C, arXiv 1602.01783, section
    4): where the search finds no difference its target is the prior itself, and only the entropy
    keeps the prior from settling on an action that nothing speaks for.

    Args:
      model: the model.
      params: its parameters.
      hyperparameters: the traced settings of the section `loss`.
      settings: the section `loss`, of which what is not traced is read.
      observation: `[B, O, ...]`; the first is the root's, and for the consistency term those of
        the next K states follow.
      targets: the targets of the batch.
      importance_weights: `[B]`.

    Returns:
      The `[]` loss, and its terms and the prior's entropy by name with the `[B]` absolute error
      of the roots' values.
    """
    scale = hyperparameters["loss.gradient_scale"]
    output = model.unroll(params, observation[:, 0], targets.action.T, scale)
    num_steps = targets.action.shape[1]
    weights = _state_weights(hyperparameters["loss.unrolled_weight"], num_steps)
    labels = functools.partial(
        scalar_to_support,
        support_size=(output.value_logits.shape[-1] - 1) // 2,
        spacing=model.support_spacing,
        width=settings.label_width,
    )
    term, reward_mask = functools.partial(_cross_entropy, importance_weights), targets.reward_mask
    terms = {
        "policy": term(output.prior_logits, targets.policy, targets.policy_mask, weights),
        "value": term(output.value_logits, labels(targets.value), targets.value_mask, weights),
        "reward": term(output.reward_logits[1:], labels(targets.reward), reward_mask, weights[1:]),
    }
    entropy = legal_entropy(output.prior_logits, targets.legal_action_mask.swapaxes(0, 1))
    mean_entropy = _mean(importance_weights, entropy, targets.policy_mask, weights)
    total = -hyperparameters["loss.entropy_weight"] * mean_entropy
    for name, value in terms.items():
        total = total + hyperparameters[f"loss.{name}_weight"] * value
    if settings.consistency_weight:
        seen = observation[:, 1 : num_steps + 1].swapaxes(0, 1)
        distance = consistency(model, params, output.embedding[1:], seen)
        per_window = jnp.where(targets.policy_mask[:, 1:].T, distance, 0.0).mean(axis=0)
        terms["consistency"] = jnp.mean(importance_weights * per_window)
        total = total + settings.consistency_weight * terms["consistency"]
    root_value = support_to_scalar(output.value_logits[0], model.support_spacing)
    error = jnp.abs(root_value - targets.value[:, 0])
    metrics = {f"loss/{name}": value for name, value in {**terms, "total": total}.items()}
    return total, ({**metrics, "policy/entropy": mean_entropy}, error)


def _state_weights(unrolled_weight: Array | float, num_steps: int) -> Array:
    """`[K + 1]` weights of the root and of the `K` unrolled states."""
    return jnp.full(num_steps + 1, unrolled_weight / max(num_steps, 1)).at[0].set(1.0)


def _mean(importance_weights: Array, values: Array, mask: Array, weights: Array) -> Array:
    """`[]` weighted mean of `[k, B]` values where `[B, k]` the mask holds."""
    chex.assert_equal_shape([values, mask.T])
    masked = jnp.where(mask.T, values, 0.0)
    per_window = jnp.dot(weights, masked, precision=jax.lax.Precision.HIGHEST)
    return jnp.mean(importance_weights * per_window)


def _cross_entropy(
    importance_weights: Array, logits: Array, labels: Array, mask: Array, weights: Array
) -> Array:
    """`[]` weighted cross-entropy of `[k, B, bins]` logits with `[B, k, bins]` labels."""
    cross_entropy = optax.softmax_cross_entropy(logits, labels.swapaxes(0, 1))
    return _mean(importance_weights, cross_entropy, mask, weights)


def legal_entropy(logits: Array, legal_action_mask: Array) -> Array:
    """`[...]` entropy in nats of the softmax over the legal ones of `[..., A]` actions.

    The logits are finite where an action is legal.
    """
    lowest = jnp.finfo(logits.dtype).min
    log_probability = jax.nn.log_softmax(jnp.where(legal_action_mask, logits, lowest))
    return -jnp.sum(jnp.exp(log_probability) * log_probability, axis=-1)


def consistency(model: MuZeroModel, params: Params, embedding: Array, observation: Array) -> Array:
    """`[K, B]` negative cosines of unrolled latents with those of the observations at their steps.

    The encoded side takes no gradient (EfficientZero, section 4.1).

    Args:
      model: a model with projection heads.
      params: the parameters of the model.
      embedding: `[K, B, *E]` unrolled latents.
      observation: `[K, B, ...]` observations.
    """
    assert model.project is not None and model.predict_projection is not None
    encoded = model.represent(params, observation.reshape((-1, *observation.shape[2:])))
    target = jax.lax.stop_gradient(model.project(params, encoded))
    unrolled = model.project(params, embedding.reshape((-1, *embedding.shape[2:])))
    prediction = model.predict_projection(params, unrolled)
    similarity = optax.cosine_similarity(prediction, target, epsilon=1e-6)
    return -similarity.reshape(embedding.shape[:2])
