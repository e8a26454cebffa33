"""What MuZero's networks are trained towards, from one batch of replayed windows.

A window holds the rows of `K + n + 1` consecutive states, for `K + 1` value targets of `n` steps.
Where the values that end those sums come from is `TargetConfig.bootstrap`; a reanalysed share of
the windows takes both its values and its policies from a fresh search (MuZero Reanalyze, appendix
H; Schrittwieser et al. 2021, arXiv 2104.06294).
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.bootstraps import (
    ValueFn,
    bootstrap_values,
    bootstrapped_returns,
    ends_of_windows,
)
from muzero_jax.agents.muzero.settings import TargetConfig
from muzero_jax.core.types import Array, Metrics, Transition
from muzero_jax.maths.value_support import is_beyond_support
from muzero_jax.replay.buffer import WindowSpec

SearchFn = Callable[[Array, Array], tuple[Array, Array]]
"""Observations `[M, ...]` and legal masks `[M, A]` to policies `[M, A]` and values `[M]`."""


class Targets(struct.PyTreeNode):
    """Targets and masks of `K + 1` states of each window; masked entries count nothing.

    Past a termination the state is absorbing: value and reward are 0 and are trained, the policy
    is masked, which is what the search assumes there. Past a truncation nothing is known and
    everything is masked.

    Attributes:
      action: `[B, K]` the actions to unroll along.
      policy: `[B, K + 1, A]` search policies.
      legal_action_mask: `[B, K + 1, A]` bool.
      value: `[B, K + 1]` n-step returns.
      reward: `[B, K]` rewards of the steps into states `1..K`.
      policy_mask, value_mask: `[B, K + 1]` bool.
      reward_mask: `[B, K]` bool.
    """

    action: Array
    policy: Array
    legal_action_mask: Array
    value: Array
    reward: Array
    policy_mask: Array
    value_mask: Array
    reward_mask: Array


def make_window_spec(
    config: TargetConfig, *, all_unrolled: bool, second: bool = False
) -> WindowSpec:
    """The window that `make_targets` reads.

    Args:
      config: the targets.
      all_unrolled: whether the loss reads the observations of all unrolled states, as the
        consistency loss does.
      second: whether the state after the first is read too, as a learner of single steps does.
    """
    length = config.window_length
    offsets = {0, 1} if second else {0}
    if config.bootstrap != "search" or config.reanalyse_fraction > 0:
        offsets |= set(bootstrap_rows(config))
    if config.reanalyse_fraction > 0 or all_unrolled:
        offsets |= set(range(config.num_unroll_steps + 1))
    return WindowSpec(length, tuple(sorted(offsets)))


def make_targets(
    config: TargetConfig,
    window: WindowSpec,
    transitions: Transition,
    discount: Array | float,
    value_fn: ValueFn,
    search_fn: SearchFn,
) -> Targets:
    """Computes the targets of a batch.

    Args:
      config: the targets.
      window: the window, made by `make_window_spec`.
      transitions: windows as `Batch.transitions`; their `record` has the `[B, L, A]`
        `action_weights` and the `[B, L]` `search_value` of acting.
      discount: `[]` of one step, negative where players alternate.
      value_fn: the bootstrap's network.
      search_fn: the fresh search of the reanalysed share.
    """
    num_steps = config.num_unroll_steps
    rows = () if config.bootstrap == "search" else tuple(bootstrap_rows(config))
    stored = transitions.record.search_value
    old = (
        transitions.record.action_weights[:, : num_steps + 1],
        *bootstrap_values(rows, window, transitions, stored, value_fn),
    )
    reanalyses = config.reanalyse_fraction > 0
    policy, row_values, final_value = (
        _reanalyse(config, window, transitions, old, search_fn) if reanalyses else old
    )
    ends, value = ends_of_windows(transitions), row_values
    if config.td_steps > 0:
        value = bootstrapped_returns(
            transitions,
            row_values,
            final_value,
            ends,
            discount,
            td_steps=config.td_steps,
            td_lambda=config.td_lambda,
        )
    alive = ends.alive[:, : num_steps + 1]
    known = ~ends.truncated_before[:, : num_steps + 1]
    return Targets(
        action=transitions.action[:, :num_steps],
        policy=policy,
        legal_action_mask=transitions.legal_action_mask[:, : num_steps + 1],
        value=jnp.where(alive, value[:, : num_steps + 1], 0.0),
        reward=jnp.where(alive[:, :-1], transitions.reward[:, :num_steps], 0.0),
        policy_mask=alive,
        value_mask=known,
        reward_mask=known[:, :-1],
    )


def clipped_share(targets: Targets, support_size: int, spacing: float) -> Metrics:
    """`target/value_clipped` and `target/reward_clipped`: shares of targets beyond the support.

    A target beyond the support is trained as the support's edge, so that the networks cannot tell
    it from any other one beyond. Masked targets are not counted.

    Args:
      targets: the targets of a batch.
      support_size: half-width S of the support, in atoms.
      spacing: distance of neighbouring atoms, see `maths.value_support`.
    """
    metrics = {}
    for name, x, mask in _trained(targets):
        is_clipped = mask & is_beyond_support(x, support_size, spacing)
        count = jnp.maximum(mask.sum(dtype=jnp.float32), 1.0)
        metrics[f"target/{name}_clipped"] = is_clipped.sum(dtype=jnp.float32) / count
    return metrics


def largest_size(targets: Targets, reward_unit: Array | float = 1.0) -> Metrics:
    """`target/value_largest` and `target/reward_largest`: absolute values, of unmasked targets.

    Args:
      targets: the targets, counted in `reward_unit`.
      reward_unit: `[]` the unit; the metrics are in the environment's rewards.
    """
    return {
        f"target/{name}_largest": reward_unit * jnp.where(mask, jnp.abs(x), 0.0).max(initial=0.0)
        for name, x, mask in _trained(targets)
    }


def _trained(targets: Targets) -> tuple[tuple[str, Array, Array], ...]:
    value = ("value", targets.value, targets.value_mask)
    return value, ("reward", targets.reward, targets.reward_mask)


def bootstrap_rows(config: TargetConfig) -> range:
    """Rows of the window whose values the returns read.

    With `td_lambda` 1 only those that end a sum of `td_steps` rewards.
    """
    first = config.td_steps if config.td_lambda == 1.0 else min(1, config.td_steps)
    return range(first, config.num_unroll_steps + config.td_steps + 1)


def _reanalyse(
    config: TargetConfig,
    window: WindowSpec,
    transitions: Transition,
    old: tuple[Array, Array, Array],
    search_fn: SearchFn,
) -> tuple[Array, Array, Array]:
    """Replaces the first share of a batch's policies, row values and final values by a search's."""
    policy, row_values, final_value = old
    share = math.ceil(config.reanalyse_fraction * policy.shape[0])
    offsets = jnp.array(window.observation_offsets)
    observation = transitions.observation[:share]
    roots = observation.reshape((-1, *observation.shape[2:]))
    legal = transitions.legal_action_mask[:share, offsets].reshape((len(roots), -1))
    num_roots, num_actions = legal.shape
    if transitions.final_observation is not None and config.td_steps > 0:
        # Which actions are legal after a time limit was not stored; only the value is used.
        roots = jnp.concatenate([roots, transitions.final_observation[:share]])
        legal = jnp.concatenate([legal, jnp.ones((share, num_actions), bool)])
    fresh_policy, fresh_value = search_fn(roots, legal)
    fresh_final = fresh_value[num_roots:]  # Empty where nothing truncates.
    final_value = final_value.at[: len(fresh_final)].set(fresh_final)
    fresh_rows = fresh_value[:num_roots].reshape((share, -1))
    row_values = row_values.at[:share, offsets].set(fresh_rows)
    # The unrolled states are the first offsets, in order.
    fresh_policy = fresh_policy[:num_roots].reshape((share, -1, num_actions))
    policy = policy.at[:share].set(fresh_policy[:, : policy.shape[1]])
    return policy, row_values, final_value
