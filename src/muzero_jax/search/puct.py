"""PUCT: MuZero's rule, and the policy around a search with it (Schrittwieser et al. 2020)."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import mctx
import numpy as np

from muzero_jax.core.types import Array, PRNGKey
from muzero_jax.maths.skipping import skip_unless
from muzero_jax.search.one_kernel import take_row
from muzero_jax.search.root_policy import (
    RootPolicy,
    SearchTree,
    summarise_roots,
    without_invalid,
)
from muzero_jax.search.rules import UNDECIDED, Node, Rule, best_action, highest, lowest

# mctx breaks ties with noise of up to this much, which it adds to the scores.
_TIE_BREAKING_NOISE = 1e-7


@dataclasses.dataclass(frozen=True)
class PuctRule(Rule):
    """The PUCT rule (appendix B, equation 2).

    The rule decides where the best score leads by more than mctx's tie-breaking noise can make up
    for. Elsewhere mctx's rule is called, with the key that mctx would have given it.

    Attributes:
      pb_c_init: c_1.
      pb_c_base: c_2.
      scaling: how Q-values are scaled to [0, 1]. `node` uses the lowest and highest value of the
        node and its children, as mctx does; `tree` uses the whole tree, as the paper does; `none`
        leaves them unscaled. Ties go to the first action with `tree` and `none`. With `none` an
        untried action has the Q-value 0, and only visits of actions are counted, as in the paper;
        mctx also counts the node's own evaluation.
      max_visits: the most visits that a node may have, or None. Where it is given, the weight of
        the prior is looked up in a table, because its root and logarithm are slow.
    """

    pb_c_init: float = 1.25
    pb_c_base: float = 19652.0
    scaling: Literal["node", "tree", "none"] = "node"
    max_visits: int | None = None

    @property
    def needs_bounds(self) -> bool:
        """See `Rule`."""
        return self.scaling == "tree"

    @property
    def always_decides(self) -> bool:
        """See `Rule`."""
        return self.scaling != "node"

    def decide_unvisited(self, prior_probs: Array) -> Array:
        """See `Rule`."""
        if self.scaling == "none":
            return jnp.int32(0)  # Without visits all scores are 0.
        return self._clearly_best(self._policy_scores(prior_probs, jnp.int32(0), jnp.int32(1)))

    def decide(self, node: Node) -> Array:
        """See `Rule`."""
        policy_scores = self._policy_scores(node.prior_probs, node.visits, node.visit_count)
        scores = self._value_scores(node) + policy_scores
        if node.invalid_actions is not None:
            scores = jnp.where(node.invalid_actions != 0, -jnp.inf, scores)
        return self._clearly_best(scores)

    def _clearly_best(self, scores: Array) -> Array:
        action = best_action(scores)
        if self.always_decides:
            return action
        is_best = jnp.arange(scores.shape[0]) == action
        best, second = highest(scores), highest(jnp.where(is_best, -jnp.inf, scores))
        # mctx's own sum may round differently by a few units in the last place.
        margin = _TIE_BREAKING_NOISE + 8 * jnp.finfo(scores.dtype).eps * jnp.abs(best)
        return jnp.where(best - second > margin, action, UNDECIDED)

    def _policy_scores(self, prior_probs: Array, visits: Array, visit_count: Array) -> Array:
        if self.scaling == "none":
            visit_count = visit_count - 1
        if self.max_visits is None:
            weight = self.prior_weight(visit_count, jnp)
        else:
            table = self.prior_weight(np.arange(self.max_visits + 1), np)
            weight = take_row(jnp.asarray(table), visit_count)
        return weight * prior_probs / (visits + 1)

    def prior_weight(self, visit_count: Any, xp: Any) -> Any:
        """Weight of the prior at a node of so many visits; `xp` is the module `jnp` or `np`."""
        pb_c = self.pb_c_init + xp.log((visit_count + self.pb_c_base + 1.0) / self.pb_c_base)
        return xp.sqrt(visit_count) * pb_c

    def _value_scores(self, node: Node) -> Array:
        visited = node.visits > 0
        if self.scaling == "none":
            return jnp.where(visited, node.qvalues, 0.0)
        if self.scaling == "tree":
            assert node.q_bounds is not None
            low, high = node.q_bounds[0], node.q_bounds[1]
        else:
            known = jnp.where(visited, node.qvalues, node.value)
            low = jnp.minimum(node.value, lowest(known))
            high = jnp.maximum(node.value, highest(known))
        value_range = jnp.where(high - low > 1e-8, high - low, 1e-8)
        return jnp.where(visited, (node.qvalues - low) / value_range, 0.0)

    def __call__(
        self, rng_key: PRNGKey, tree: mctx.Tree, node_index: Array | int, depth: Array | int = 0
    ) -> Array:
        """The action that mctx's rule takes. The `rng_key` is consumed."""
        return mctx.muzero_action_selection(
            rng_key,
            tree,
            node_index,
            depth,
            pb_c_init=self.pb_c_init,
            pb_c_base=self.pb_c_base,
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
    """Searches with Dirichlet noise at the root, as `mctx.muzero_policy` (appendix B).

    Args:
      search: the engine.
      rng_key: consumed.
      root: `(prior_logits [B, A], value [B], embedding [B, ...])`.
      invalid_actions: `[B, A]` bool.
      num_simulations: number of simulations of the search.
      rule: the PUCT rule.
      dirichlet_alpha: concentration of the noise.
      dirichlet_fraction: share of the noise in the prior.
      temperature: softmax temperature; an action is drawn in proportion to
        `visits ** (1 / temperature)`, and 0 takes the most visited action.
      by_qvalues: whether an action is drawn in proportion to `exp(qvalues / temperature)` instead,
        which then is the improved policy too; an untried action has the Q-value 0.
    """
    action_key, noise_key, search_key = jax.random.split(rng_key, 3)
    prior_logits = _noisy_logits(root, noise_key, dirichlet_alpha, dirichlet_fraction)
    tree = search(
        rng_key=search_key,
        root=root.replace(prior_logits=without_invalid(prior_logits, invalid_actions)),
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


def _noisy_logits(
    root: mctx.RootFnOutput, rng_key: PRNGKey, alpha: Array | float, fraction: Array | float
) -> Array:
    """`[B, A]` logits of the prior mixed with Dirichlet noise."""

    def draw_noise(rng_key: PRNGKey, alpha: Array) -> Array:
        return jax.random.dirichlet(rng_key, jnp.full(probs.shape[-1], alpha), probs.shape[:1])

    probs = noisy = jax.nn.softmax(root.prior_logits)
    # An evaluation gives a plain 0. Drawing noise for nothing would take a second to compile.
    if not (isinstance(fraction, float) and fraction == 0.0):
        noise = skip_unless(fraction > 0, draw_noise, jnp.zeros(probs.shape), rng_key, alpha)
        noisy = (1 - fraction) * probs + fraction * noise
    return _logits(noisy)


def _logits(probs: Array) -> Array:
    return jnp.log(jnp.maximum(probs, jnp.finfo(probs.dtype).tiny))
