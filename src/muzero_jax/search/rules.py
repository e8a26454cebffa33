"""Rules: which action a simulation takes at a node.

A search has two rules, one for the roots and one for the nodes below them. A simulation starts at a
root and follows the choices of the rules down the tree, to an action that leads to no node yet.
mctx calls such a function an action selection function.

A rule of this project decides from the statistics of one node (`Node`). The engine can therefore
ask the rule when a node has just changed, and remember the answer until the node changes again. A
rule can also be called with the arguments of mctx's rule of the same name; it then is that rule,
which defines what the rule means. Tests hold the two forms to the same actions.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from muzero_jax.core.types import Array, PRNGKey

UNDECIDED = -1


class Node(NamedTuple):
    """The statistics of one node, which are all that a rule may read.

    Attributes:
      prior_logits: `[A]` logits of the network's policy.
      prior_probs: `[A]` softmax of the logits, at least the smallest normal number.
      visits: `[A]` int32 visits of each action.
      qvalues: `[A]` reward and discounted value of each action; 0 where it was not tried.
      raw_value: `[]` the network's value of the node.
      value: `[]` mean of the values that were backed up to the node.
      visit_count: `[]` int32 visits of the node itself.
      visited_prob: `[]` sum of `prior_probs` over the actions that were visited.
      q_bounds: `[2]` lowest and highest Q-value that the tree has had; None where no rule reads it.
      invalid_actions: `[A]` nonzero where the action may not be taken; None below the root.
      extra_data: the tree's `extra_data`; None below the root.
    """

    prior_logits: Array
    prior_probs: Array
    visits: Array
    qvalues: Array
    raw_value: Array
    value: Array
    visit_count: Array
    visited_prob: Array
    q_bounds: Array | None = None
    invalid_actions: Array | None = None
    extra_data: Any = None


class Rule:
    """A rule that the engine can ask about a single node.

    A rule answers `UNDECIDED` where chance must decide; the engine then calls the rule. The methods
    of this class never decide.
    """

    @property
    def always_decides(self) -> bool:
        """Whether `decide` and `decide_unvisited` never answer `UNDECIDED`."""
        return False

    @property
    def needs_bounds(self) -> bool:
        """Whether the rule reads the lowest and highest Q-value of the whole tree.

        A decision of a rule that does not read them holds until the node itself changes.
        """
        return False

    def decide(self, node: Node) -> Array:
        """`[]` int32, the action to take at the node, or `UNDECIDED`."""
        del node
        return jnp.int32(UNDECIDED)

    def decide_unvisited(self, prior_probs: Array) -> Array:
        """The decision at a node that has no visited action, from its `[A]` probabilities."""
        del prior_probs
        return jnp.int32(UNDECIDED)

    def __call__(
        self, rng_key: PRNGKey, tree: Any, node_index: Array | int, depth: Array | int = 0
    ) -> Array:
        """The action that mctx's rule takes. The `rng_key` is consumed."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class OpaqueRule(Rule):
    """A function with the signature of mctx's rules, which can only be called.

    Attributes:
      function: function of `(rng_key, tree, node_index)`, and of `depth` below the root, which
        returns an action.
    """

    function: Callable[..., Array]

    def __call__(self, *args: Any, **options: Any) -> Array:
        """The action that the function takes."""
        return self.function(*args, **options)


def as_rule(function: Callable[..., Array]) -> Rule:
    """Returns the function itself where it is a rule, and an `OpaqueRule` around it elsewhere."""
    return function if isinstance(function, Rule) else OpaqueRule(function)


@dataclasses.dataclass(frozen=True)
class TreeSpec:
    """The rules and the sizes of the trees of a search; the same for all trees of a batch.

    Attributes:
      root_rule: chooses at the roots.
      interior_rule: chooses at all other nodes.
      num_nodes: room in each tree, `N + 1`.
      num_actions: `A`.
      max_depth: longest path from a root, in edges.
    """

    root_rule: Rule
    interior_rule: Rule
    num_nodes: int
    num_actions: int
    max_depth: Array | int

    @property
    def needs_keys(self) -> bool:
        """Whether a rule may have to be called with a key."""
        return not (self.root_rule.always_decides and self.interior_rule.always_decides)

    @property
    def needs_bounds(self) -> bool:
        """Whether a rule reads the lowest and highest Q-value of the tree."""
        return self.root_rule.needs_bounds or self.interior_rule.needs_bounds

    @property
    def remembers_choices(self) -> bool:
        """Whether the choice of an interior node holds until the node changes."""
        return not (self.interior_rule.needs_bounds or isinstance(self.interior_rule, OpaqueRule))

    @property
    def shows_embeddings(self) -> bool:
        """Whether a rule may read the embedding of a node."""
        return any(isinstance(r, OpaqueRule) for r in (self.root_rule, self.interior_rule))

    @property
    def needs_only_nodes(self) -> bool:
        """Whether the rules decide without a key and without an embedding."""
        return not (self.needs_keys or self.shows_embeddings)


def highest(x: Array) -> Array:
    """`[]` greatest of `x [A]`."""
    return jax.lax.reduce(x, _least(x), lambda a, b: jnp.where(b > a, b, a), (0,))


def lowest(x: Array) -> Array:
    """`[]` smallest of the floating-point numbers `x [A]`."""
    return jax.lax.reduce(x, -_least(x), lambda a, b: jnp.where(b < a, b, a), (0,))


def best_action(scores: Array) -> Array:
    """`[]` int32, the first action of the highest of `scores [A]`; 0 where all are -inf."""

    def better(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        return jnp.where(b[0] > a[0], b[0], a[0]), jnp.where(b[0] > a[0], b[1], a[1])

    actions = jnp.arange(scores.shape[0], dtype=jnp.int32)
    start = _least(scores), jnp.int32(0)
    return jax.lax.reduce((scores, actions), start, better, (0,))[1]


def _least(x: Array) -> Array:
    if jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.asarray(-jnp.inf, x.dtype)
    return jnp.asarray(jnp.iinfo(x.dtype).min, x.dtype)
