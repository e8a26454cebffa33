"""What surrounds a search: noise at the root before it, and a policy and an action after it.

The two policies of mctx with the search itself left open, so that `mctx.search` and the engine of
this project can take each other's place; tests hold them to mctx's results.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mctx

from muzero_jax.core.types import Array, PRNGKey
from muzero_jax.maths.skipping import skip_unless
from muzero_jax.search.gumbel_rules import (
    CompletedQValues,
    ImprovedPolicyRule,
    SequentialHalvingRule,
    gumbel_scores,
)
from muzero_jax.search.puct_rule import PuctRule

# `mctx.search`, or another of its signature, with all but these arguments given.
SearchTree = Callable[..., mctx.Tree]


class RootPolicy(NamedTuple):
    """What a search of a batch of roots led to.

    Attributes:
      action: `[B]` int32, the action to take.
      action_weights: `[B, A]` the improved policy, a target for the prior.
      tree: the searched trees.
    """

    action: Array
    action_weights: Array
    tree: mctx.Tree


def gumbel_policy(
    search: SearchTree,
    rng_key: PRNGKey,
    root: mctx.RootFnOutput,
    invalid_actions: Array,
    *,
    num_simulations: int,
    completed: CompletedQValues,
    max_num_considered_actions: int,
    gumbel_scale: Array | float,
) -> RootPolicy:
    """Gumbel MuZero (Danihelka et al. 2022, sections 3 to 5); `mctx.gumbel_muzero_policy`.

    Args:
      search: as `mctx.search`, with `params`, `recurrent_fn` and `max_depth` given.
      rng_key: consumed.
      root: see `mctx.RootFnOutput`.
      invalid_actions: `[B, A]` bool.
      num_simulations: of the search.
      completed: the Q-values of the improved policy.
      max_num_considered_actions: drawn at the root without replacement.
      gumbel_scale: of the noise at the root.
    """
    root = root.replace(prior_logits=_masked(root.prior_logits, invalid_actions))
    search_key, gumbel_key = jax.random.split(rng_key)
    noise = jax.random.gumbel(gumbel_key, root.prior_logits.shape, root.prior_logits.dtype)
    gumbel = gumbel_scale * noise
    tree = search(
        rng_key=search_key,
        root=root,
        root_action_selection_fn=SequentialHalvingRule(
            completed, num_simulations, max_num_considered_actions
        ),
        interior_action_selection_fn=ImprovedPolicyRule(completed),
        num_simulations=num_simulations,
        invalid_actions=invalid_actions,
        extra_data=mctx.GumbelMuZeroExtraData(root_gumbel=gumbel),
    )
    visits = tree.children_visits[:, 0]
    qvalues = completed.of_roots(tree)
    # The best of the most visited actions.
    most = jnp.max(visits, axis=-1, keepdims=True)
    scores = gumbel_scores(most, gumbel, root.prior_logits, qvalues, visits)
    return RootPolicy(
        action=jnp.argmax(jnp.where(invalid_actions, -jnp.inf, scores), axis=-1),
        action_weights=jax.nn.softmax(_masked(root.prior_logits + qvalues, invalid_actions)),
        tree=tree,
    )


def puct_policy(
    search: SearchTree,
    rng_key: PRNGKey,
    root: mctx.RootFnOutput,
    invalid_actions: Array,
    *,
    num_simulations: int,
    rule: PuctRule,
    dirichlet_alpha: Array | float,
    dirichlet_fraction: Array | float,
    temperature: Array | float,
    by_qvalues: bool = False,
) -> RootPolicy:
    """MuZero's PUCT with Dirichlet noise at the root (appendix B); `mctx.muzero_policy`.

    Args:
      search: as `mctx.search`, with `params`, `recurrent_fn` and `max_depth` given.
      rng_key: consumed.
      root: see `mctx.RootFnOutput`.
      invalid_actions: `[B, A]` bool.
      num_simulations: of the search.
      rule: the PUCT rule.
      dirichlet_alpha: concentration of the noise.
      dirichlet_fraction: its share in the prior.
      temperature: acts in proportion to `visits ** (1 / temperature)`; 0 takes the most visited.
      by_qvalues: acts in proportion to `exp(qvalues / temperature)` instead, and that is the
        improved policy too; an untried action has the Q-value 0.
    """

    def draw_noise(rng_key: PRNGKey, alpha: Array) -> Array:
        return jax.random.dirichlet(rng_key, jnp.full(probs.shape[-1], alpha), probs.shape[:1])

    action_key, noise_key, search_key = jax.random.split(rng_key, 3)
    probs = noisy = jax.nn.softmax(root.prior_logits)
    # A plain 0 is that of an evaluation; drawing for nothing would cost a second of compiling.
    if not (isinstance(dirichlet_fraction, float) and dirichlet_fraction == 0.0):
        noise = skip_unless(
            dirichlet_fraction > 0, draw_noise, jnp.zeros(probs.shape), noise_key, dirichlet_alpha
        )
        noisy = (1 - dirichlet_fraction) * probs + dirichlet_fraction * noise
    tree = search(
        rng_key=search_key,
        root=root.replace(prior_logits=_masked(_logits(noisy), invalid_actions)),
        root_action_selection_fn=rule,
        interior_action_selection_fn=rule,
        num_simulations=num_simulations,
        invalid_actions=invalid_actions,
    )
    summary = summarise_roots(tree)
    visit_probs = summary.visits / jnp.maximum(summary.visits.sum(axis=-1, keepdims=True), 1)
    if by_qvalues:
        qvalues = jnp.where(summary.visits > 0, summary.qvalues, 0.0)
        logits = jnp.where(invalid_actions, -jnp.inf, qvalues)
    else:
        logits = _logits(visit_probs)
    tiny = jnp.finfo(logits.dtype).tiny
    logits = (logits - logits.max(axis=-1, keepdims=True)) / jnp.maximum(tiny, temperature)
    weights = jax.nn.softmax(logits) if by_qvalues else visit_probs
    return RootPolicy(jax.random.categorical(action_key, logits), weights, tree)


class RootSummary(NamedTuple):
    """What a search found at its roots, of `mctx.Tree.summary` the part that is used.

    mctx computes the Q-values of all nodes on the way.

    Attributes:
      visits: `[B, A]` int32, of the actions.
      qvalues: `[B, A]` reward and discounted value; meaningless where an action was not tried.
      value: `[B]`.
    """

    visits: Array
    qvalues: Array
    value: Array


def summarise_roots(tree: mctx.Tree) -> RootSummary:
    """The summary of a batch of trees."""

    def at_root(x: Array) -> Array:
        return x[:, tree.ROOT_INDEX]

    discounted = at_root(tree.children_discounts) * at_root(tree.children_values)
    return RootSummary(
        visits=at_root(tree.children_visits),
        qvalues=at_root(tree.children_rewards) + discounted,
        value=at_root(tree.node_values),
    )


def _masked(logits: Array, invalid_actions: Array) -> Array:
    """Finite logits without mass on invalid actions, also where all actions are invalid."""
    logits = logits - jnp.max(logits, axis=-1, keepdims=True)
    return jnp.where(invalid_actions, jnp.finfo(logits.dtype).min, logits)


def _logits(probs: Array) -> Array:
    return jnp.log(jnp.maximum(probs, jnp.finfo(probs.dtype).tiny))
