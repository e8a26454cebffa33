"""Gumbel MuZero: its rules, and the policy around a search with them (Danihelka et al. 2022).

The rules are sequential halving at the root and the improved policy below it.
"""

import dataclasses

import jax
import jax.numpy as jnp
import mctx
import numpy as np

from muzero_jax.core.types import Array, PRNGKey
from muzero_jax.search.root_policy import RootPolicy, SearchTree, without_invalid
from muzero_jax.search.rules import Node, Rule, best_action, highest, lowest


@dataclasses.dataclass(frozen=True)
class CompletedQValues:
    """Q-values of the improved policy of Gumbel MuZero (appendix D).

    An action without a visit gets the mixed value. All Q-values are scaled to [0, 1], and then by
    `(maxvisit_init + max_b visits_b) * value_scale` (section 3.4, equation 8).

    Attributes:
      value_scale: c_scale.
      maxvisit_init: c_visit.
      min_range: the smallest range that Q-values are divided by.
    """

    value_scale: float = 0.1
    maxvisit_init: float = 50.0
    min_range: float = 1e-8

    def of_node(self, node: Node) -> Array:
        """`[A]` scaled Q-values of one node."""
        visited = node.visits > 0
        num_visits = jnp.sum(node.visits)
        weights = node.prior_probs * node.qvalues / jnp.where(visited, node.visited_prob, 1.0)
        mean_q = jnp.sum(jnp.where(visited, weights, 0.0))
        mixed_value = (node.raw_value + num_visits * mean_q) / (num_visits + 1)
        completed = jnp.where(visited, node.qvalues, mixed_value)
        low, high = lowest(completed), highest(completed)
        value_range = jnp.where(high - low > self.min_range, high - low, self.min_range)
        scale = (self.maxvisit_init + highest(node.visits)) * self.value_scale
        return scale * ((completed - low) / value_range)

    def of_roots(self, tree: mctx.Tree) -> Array:
        """`[B, A]` scaled Q-values of the roots of a batch of trees."""
        return jax.vmap(self, in_axes=(0, None))(tree, mctx.Tree.ROOT_INDEX)

    def __call__(self, tree: mctx.Tree, node_index: Array | int) -> Array:
        """`[A]` scaled Q-values of a node of an unbatched tree, by mctx's transformation."""
        return mctx.qtransform_completed_by_mix_value(
            tree,
            node_index,
            value_scale=self.value_scale,
            maxvisit_init=self.maxvisit_init,
            epsilon=self.min_range,
        )


@dataclasses.dataclass(frozen=True)
class ImprovedPolicyRule(Rule):
    """Visits actions in proportion to softmax(prior logits + completed Q-values) (section 5).

    Attributes:
      completed: the completed Q-values.
    """

    completed: CompletedQValues
    always_decides = True

    def decide_unvisited(self, prior_probs: Array) -> Array:
        """See `Rule`."""
        return best_action(prior_probs)

    def decide(self, node: Node) -> Array:
        """See `Rule`."""
        logits = node.prior_logits + self.completed.of_node(node)
        unnormalised = jnp.exp(logits - highest(logits))
        probs = unnormalised / jnp.sum(unnormalised)
        return best_action(probs - node.visits / (1 + jnp.sum(node.visits)))

    def __call__(
        self, rng_key: PRNGKey, tree: mctx.Tree, node_index: Array | int, depth: Array | int = 0
    ) -> Array:
        """The action that mctx's rule takes. The `rng_key` is consumed."""
        return mctx.gumbel_muzero_interior_action_selection(
            rng_key, tree, node_index, depth, qtransform=self.completed
        )


@dataclasses.dataclass(frozen=True)
class SequentialHalvingRule(Rule):
    """Sequential halving among the actions that Gumbel noise drew (algorithm 2); for roots.

    The root's `extra_data` is `mctx.GumbelMuZeroExtraData`.

    Attributes:
      completed: the completed Q-values.
      num_simulations: number of simulations of the search.
      max_num_considered_actions: number of actions that are drawn without replacement.
    """

    completed: CompletedQValues
    num_simulations: int
    max_num_considered_actions: int
    always_decides = True

    def decide(self, node: Node) -> Array:
        """See `Rule`."""
        assert node.invalid_actions is not None
        num_valid = jnp.sum(1 - node.invalid_actions).astype(jnp.int32)
        num_considered = jnp.minimum(self.max_num_considered_actions, num_valid)
        table = jnp.asarray(
            considered_visits(self.max_num_considered_actions, self.num_simulations)
        )
        # The visits of the root's actions count the simulations.
        considered = table[num_considered, jnp.sum(node.visits)]
        scores = _scores(
            considered,
            node.extra_data.root_gumbel,
            node.prior_logits,
            self.completed.of_node(node),
            node.visits,
        )
        return best_action(jnp.where(node.invalid_actions != 0, -jnp.inf, scores))

    def __call__(
        self, rng_key: PRNGKey, tree: mctx.Tree, node_index: Array | int, depth: Array | int = 0
    ) -> Array:
        """The action that mctx's rule takes. The `rng_key` is consumed."""
        del depth
        return mctx.gumbel_muzero_root_action_selection(
            rng_key,
            tree,
            node_index,
            num_simulations=self.num_simulations,
            max_num_considered_actions=self.max_num_considered_actions,
            qtransform=self.completed,
        )


def _scores(
    considered: Array, gumbel: Array, prior_logits: Array, qvalues: Array, visits: Array
) -> Array:
    """`[..., A]` scores of a root's actions; -inf where `visits` differs from `considered`."""
    logits = prior_logits - jnp.max(prior_logits, axis=-1, keepdims=True)
    # The floor keeps an action of hopeless score ahead of the actions that are not considered.
    scores = jnp.maximum(-1e9, gumbel + logits + qvalues)
    return scores + jnp.where(visits == considered, 0.0, -jnp.inf)


def considered_visits(max_num_considered_actions: int, num_simulations: int) -> np.ndarray:
    """The schedule of sequential halving (section 3.3).

    Returns:
      `[max_num_considered_actions + 1, N]` visits that an action must have to be tried in each
      simulation; one row for each number of actions that the root may consider.
    """
    rows = [_considered_visits(m, num_simulations) for m in range(max_num_considered_actions + 1)]
    return np.asarray(rows, np.int32)


def _considered_visits(num_considered: int, num_simulations: int) -> list[int]:
    if num_considered <= 1:
        return list(range(num_simulations))
    num_phases = int(np.ceil(np.log2(num_considered)))
    visits = [0] * num_considered
    sequence: list[int] = []
    while len(sequence) < num_simulations:
        for _ in range(max(1, int(num_simulations / (num_phases * num_considered)))):
            sequence += visits[:num_considered]
            visits[:num_considered] = [v + 1 for v in visits[:num_considered]]
        num_considered = max(2, num_considered // 2)
    return sequence[:num_simulations]


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
    """Searches with Gumbel noise at the root, as `mctx.gumbel_muzero_policy` (sections 3 to 5).

    Args:
      search: the engine.
      rng_key: consumed.
      root: `(prior_logits [B, A], value [B], embedding [B, ...])`.
      invalid_actions: `[B, A]` bool.
      num_simulations: number of simulations of the search.
      completed: the Q-values of the improved policy.
      max_num_considered_actions: number of actions that are drawn at the root without replacement.
      gumbel_scale: scale of the noise at the root.
    """
    root = root.replace(prior_logits=without_invalid(root.prior_logits, invalid_actions))
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
    # The action to take is the best of the most visited actions.
    most = jnp.max(visits, axis=-1, keepdims=True)
    scores = _scores(most, gumbel, root.prior_logits, qvalues, visits)
    weights = jax.nn.softmax(without_invalid(root.prior_logits + qvalues, invalid_actions))
    return RootPolicy(
        action=jnp.argmax(jnp.where(invalid_actions, -jnp.inf, scores), axis=-1),
        action_weights=weights,
        tree=tree,
    )
