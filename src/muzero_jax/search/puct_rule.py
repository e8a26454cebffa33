"""MuZero's PUCT rule."""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp
import mctx
import numpy as np

from muzero_jax.core.types import Array, PRNGKey
from muzero_jax.search.one_kernel import take_row
from muzero_jax.search.rules import UNDECIDED, Node, best_action, highest, lowest

# mctx adds noise of up to this much to PUCT's scores, so that equal actions are tried in any order.
TIE_BREAKING_NOISE = 1e-7


@dataclasses.dataclass(frozen=True)
class PuctRule:
    """MuZero's PUCT (Schrittwieser et al. 2020, appendix B, equation 2).

    Decides where the best score leads by more than mctx's tie-breaking noise can make up for;
    elsewhere mctx's rule is asked, with the key that mctx would have given it.

    Attributes:
      pb_c_init: c_1.
      pb_c_base: c_2.
      scaling: of the Q-values to [0, 1]; by the lowest and highest of the node and its children
        (`node`, as mctx does), or of the whole tree (`tree`, as the paper does), or `none`. But for
        `node`, ties go to the first action. With `none`, an untried action has the Q-value 0, and
        the rule counts the visits of the actions only, as the paper writes it, and not the node's
        own evaluation, as mctx does.
      max_visits: the most visits that a node may have. Where it is known, what the prior is
        multiplied by is looked up in a table, for its root and logarithm are slow.
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
        """See `Rule.decide_unvisited`."""
        if self.scaling == "none":
            return jnp.int32(0)  # Without visits all scores are 0.
        return self._clearly_best(self._policy_scores(prior_probs, jnp.int32(0), jnp.int32(1)))

    def decide(self, node: Node) -> Array:
        """See `Rule.decide`."""
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
        margin = TIE_BREAKING_NOISE + 8 * jnp.finfo(scores.dtype).eps * jnp.abs(best)
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
        """Of the prior, before it is divided by an action's visits; `xp` is `jnp` or `np`."""
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
        """The action by mctx's rule. The `rng_key` is consumed."""
        return mctx.muzero_action_selection(
            rng_key,
            tree,
            node_index,
            depth,
            pb_c_init=self.pb_c_init,
            pb_c_base=self.pb_c_base,
        )
