"""What MuZero's networks are trained towards, from one batch of replayed windows.

A window holds the rows of `K + n + 1` consecutive states, for `K + 1` value targets of `n` steps.
Where the values that end those sums come from is `TargetConfig.bootstrap`; a reanalysed share of
the windows takes both its values and its policies from a fresh search (MuZero Reanalyze, appendix
H; Schrittwieser et al. 2021, arXiv 2104.06294).
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.muzero.settings import TargetConfig
from muzero_jax.core.types import Array, Transition
from muzero_jax.maths.returns import n_step_returns, window_ends
from muzero_jax.replay.buffer import WindowSpec

ValueFn = Callable[[Array], Array]
"""Observations `[M, ...]` to values `[M]`."""
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
      policy_mask: `[B, K + 1]` bool.
      value_mask: `[B, K + 1]` bool.
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


def make_window_spec(config: TargetConfig, *, all_unrolled: bool) -> WindowSpec:
    """The window that `make_targets` reads.

    Args:
      config: the targets.
      all_unrolled: whether the loss reads the observations of all unrolled states, as the
        consistency loss does.
    """
    length = config.window_length
    offsets = {0}
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
    num_unroll_steps, num_values = config.num_unroll_steps, window.length - 1
    policy = transitions.record.action_weights[:, : num_unroll_steps + 1]
    row_values, final_value = _bootstrap_values(config, window, transitions, value_fn)
    if config.reanalyse_fraction > 0:
        policy, row_values, final_value = _reanalyse(
            config, window, transitions, policy, row_values, final_value, search_fn
        )
    ends = jax.vmap(window_ends)(transitions.discount, transitions.truncated)
    reward, done = transitions.reward[:, :-1], transitions.truncated[:, :-1]
    if config.td_steps == 0:
        value = row_values
    else:
        step = jnp.arange(num_values)[None]
        is_cut = (step == ends.first_end[:, None]) & done
        value_tp1 = jnp.where(is_cut, final_value[:, None], row_values[:, 1:])
        returns = functools.partial(
            n_step_returns, td_steps=config.td_steps, td_lambda=config.td_lambda
        )
        value = jax.vmap(returns)(reward, discount * transitions.discount[:, :-1], done, value_tp1)
    alive = ends.alive[:, : num_unroll_steps + 1]
    known = ~ends.truncated_before[:, : num_unroll_steps + 1]
    return Targets(
        action=transitions.action[:, :num_unroll_steps],
        policy=policy,
        legal_action_mask=transitions.legal_action_mask[:, : num_unroll_steps + 1],
        value=jnp.where(alive, value[:, : num_unroll_steps + 1], 0.0),
        reward=jnp.where(alive[:, :-1], reward[:, :num_unroll_steps], 0.0),
        policy_mask=alive,
        value_mask=known,
        reward_mask=known[:, :-1],
    )


def bootstrap_rows(config: TargetConfig) -> range:
    """Rows of the window whose values the returns read.

    With `td_lambda` 1 only those that end a sum of `td_steps` rewards.
    """
    first = config.td_steps if config.td_lambda == 1.0 else min(1, config.td_steps)
    return range(first, config.num_unroll_steps + config.td_steps + 1)


def _bootstrap_values(
    config: TargetConfig, window: WindowSpec, transitions: Transition, value_fn: ValueFn
) -> tuple[Array, Array]:
    """Values `[B, L]` of the rows that are read, and `[B]` of the final observations."""
    batch_size = transitions.action.shape[0]
    final_value = jnp.zeros(batch_size)
    if transitions.final_observation is not None:
        # Truncations are rare; most batches can do without these values.
        final_value = jax.lax.cond(
            transitions.truncated.any(),
            value_fn,
            lambda _: final_value,
            transitions.final_observation,
        )
    values = transitions.record.search_value
    if config.bootstrap == "search":
        return values, final_value
    rows = jnp.array(bootstrap_rows(config))
    position = jnp.array([window.observation_offsets.index(r) for r in bootstrap_rows(config)])
    observation = transitions.observation[:, position]
    fresh = value_fn(observation.reshape((-1, *observation.shape[2:])))
    return values.at[:, rows].set(fresh.reshape((batch_size, -1))), final_value


def _reanalyse(
    config: TargetConfig,
    window: WindowSpec,
    transitions: Transition,
    policy: Array,
    row_values: Array,
    final_value: Array,
    search_fn: SearchFn,
) -> tuple[Array, Array, Array]:
    """Replaces the policies and values of the first share of the batch by those of a search."""
    share = math.ceil(config.reanalyse_fraction * policy.shape[0])
    offsets = jnp.array(window.observation_offsets)
    observation = transitions.observation[:share]
    legal = transitions.legal_action_mask[:share, offsets]
    roots = observation.reshape((-1, *observation.shape[2:]))
    root_legal = legal.reshape((-1, legal.shape[-1]))
    num_roots = roots.shape[0]
    if transitions.final_observation is not None and config.td_steps > 0:
        # Which actions are legal after a time limit was not stored; only the value is used.
        every = jnp.ones((share, legal.shape[-1]), bool)
        roots = jnp.concatenate([roots, transitions.final_observation[:share]])
        root_legal = jnp.concatenate([root_legal, every])
    fresh_policy, fresh_value = search_fn(roots, root_legal)
    fresh_final = fresh_value[num_roots:]  # Empty where nothing truncates.
    final_value = final_value.at[: len(fresh_final)].set(fresh_final)
    fresh_policy, fresh_value = fresh_policy[:num_roots], fresh_value[:num_roots]
    row_values = row_values.at[:share, offsets].set(fresh_value.reshape((share, -1)))
    # The unrolled states are the first offsets, in order.
    num_policies = policy.shape[1]
    fresh_policy = fresh_policy.reshape((share, -1, policy.shape[-1]))[:, :num_policies]
    policy = policy.at[:share].set(fresh_policy)
    return policy, row_values, final_value
