"""What DQN's action values are trained towards, and by which loss."""

import jax
import jax.numpy as jnp
import optax
from flax import struct

from muzero_jax.agents.base import Hyperparameters
from muzero_jax.agents.bootstraps import (
    ValueFn,
    bootstrap_values,
    bootstrapped_returns,
    ends_of_windows,
)
from muzero_jax.agents.dqn.settings import DQNSettings, QValueConfig
from muzero_jax.core.types import Array, Metrics, Params, Transition
from muzero_jax.maths.value_support import scalar_to_support
from muzero_jax.networks.q_networks import QModel
from muzero_jax.replay.buffer import WindowSpec


class QTargets(struct.PyTreeNode):
    """Targets of `K + 1` states of each window, of which only the first belongs to plain DQN.

    Attributes:
      action: `[B, K + 1]` int32, the actions taken.
      value: `[B, K + 1]` n-step returns of these actions; 0 past a termination.
      value_mask: `[B, K + 1]` bool, false where nothing is known: past a truncation.
      reward: `[B, K]` rewards of the steps into the unrolled states.
      reward_mask: `[B, K]` bool.
    """

    action: Array
    value: Array
    value_mask: Array
    reward: Array
    reward_mask: Array


def make_window_spec(settings: DQNSettings) -> WindowSpec:
    """The window that `make_q_targets` reads: the first state, and those that end the returns."""
    first = settings.target.td_steps
    rows = range(first, first + settings.num_unroll_steps + 1)
    return WindowSpec(settings.window_length, (0, *rows))


def make_q_targets(
    settings: DQNSettings,
    window: WindowSpec,
    transitions: Transition,
    discount: Array | float,
    value_fn: ValueFn,
) -> QTargets:
    """Computes the targets of a batch.

    Args:
      settings: the settings of the agent.
      window: the window, made by `make_window_spec`.
      transitions: windows as `Batch.transitions`, with rewards in units.
      discount: `[]` of one step.
      value_fn: the value of the best action, see `QModel.best_values`.
    """
    num_steps, ends = settings.num_unroll_steps, ends_of_windows(transitions)
    stored = jnp.zeros(transitions.reward.shape)
    rows = window.observation_offsets[1:]
    row_values, final_value = bootstrap_values(rows, window, transitions, stored, value_fn)
    returns = bootstrapped_returns(
        transitions,
        row_values,
        final_value,
        ends,
        discount,
        td_steps=settings.target.td_steps,
    )
    alive, known = (x[:, : num_steps + 1] for x in (ends.alive, ~ends.truncated_before))
    return QTargets(
        action=transitions.action[:, : num_steps + 1],
        value=jnp.where(alive, returns, 0.0),
        value_mask=known,
        reward=jnp.where(alive[:, :-1], transitions.reward[:, :num_steps], 0.0),
        reward_mask=known[:, :-1],
    )


def dqn_loss(
    model: QModel,
    params: Params,
    hyperparameters: Hyperparameters,
    settings: DQNSettings,
    observation: Array,
    targets: QTargets,
    importance_weights: Array,
) -> tuple[Array, tuple[Metrics, Array]]:
    """The loss of one batch.

    Args:
      model: the network.
      params: its parameters.
      hyperparameters: the traced settings; `unrolled.gradient_scale` is read.
      settings: the settings of the agent.
      observation: `[B, ...]` the first observations.
      targets: the targets of the batch.
      importance_weights: `[B]`.

    Returns:
      The `[]` loss, and its terms by name with the `[B]` absolute error of the first states.
    """
    num_steps, weight = settings.num_unroll_steps, settings.unrolled.weight
    scale = hyperparameters["unrolled.gradient_scale"]
    outputs, reward = model.unroll(params, observation, targets.action[:, :num_steps].T, scale)
    taken = jnp.take_along_axis(outputs, targets.action.T[..., None, None], axis=2)[:, :, 0]
    weights = jnp.full((num_steps + 1, 1), weight / max(num_steps, 1)).at[0].set(1.0)
    errors = _errors(settings.qvalue, model, taken, targets.value.T)
    masked = jnp.where(targets.value_mask.T, errors, 0.0)
    total = value = jnp.mean(importance_weights * (weights * masked).sum(axis=0))
    metrics = {"loss/value": value}
    if num_steps:
        labels = _labels(settings.qvalue, model, reward, targets.reward.T)
        errors = optax.softmax_cross_entropy(reward, labels)
        masked = jnp.where(targets.reward_mask.T, errors, 0.0)
        metrics["loss/reward"] = jnp.mean(importance_weights * (weights[1:] * masked).sum(axis=0))
        total = total + metrics["loss/reward"]
    error = jnp.abs(model.scalars(taken[0]) - targets.value[:, 0])
    return total, ({**metrics, "loss/total": total}, error)


def _errors(settings: QValueConfig, model: QModel, outputs: Array, target: Array) -> Array:
    """`[k, B]` losses of `[k, B, bins or 1]` outputs of the actions taken."""
    if settings.categorical:
        labels = _labels(settings, model, outputs, target)
        return optax.softmax_cross_entropy(outputs, labels)
    return optax.huber_loss(outputs[..., 0], target, delta=settings.huber_width)


def _labels(settings: QValueConfig, model: QModel, logits: Array, target: Array) -> Array:
    """`[k, B, bins]` labels of `[k, B]` numbers on the support of the logits."""
    support_size = (logits.shape[-1] - 1) // 2
    labels = scalar_to_support(target, support_size, model.support_spacing, settings.label_width)
    return jax.lax.stop_gradient(labels)
