"""What the engine asks of a rule, and what a rule may know: one node.

A rule decides from one node's statistics alone, so that the engine can ask it when the node has
just changed and remember the answer. Each rule is also callable as mctx's rule of the same name,
which is its definition: tests hold the two to the same actions.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp

from muzero_jax.core.types import Array, PRNGKey

UNDECIDED = -1


class Node(NamedTuple):
    """What a rule may know of one node.

    Attributes:
      prior_logits: `[A]`.
      prior_probs: `[A]` their softmax, at least the smallest normal number.
      visits: `[A]` int32, of the actions.
      qvalues: `[A]` reward and discounted value of each action; 0 where it was not tried.
      raw_value: `[]` the network's value.
      value: `[]` the mean of the backed-up values.
      visit_count: `[]` int32, of the node itself.
      visited_prob: `[]` sum of `prior_probs` over the actions that were visited.
      q_bounds: `[2]` lowest and highest Q-value that the tree has had; None where no rule asks.
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


class Rule(Protocol):
    """A rule that the engine can ask about a single node.

    Attributes:
      always_decides: whether `decide` never answers `UNDECIDED`.
      needs_bounds: whether it reads the lowest and highest Q-value of the tree; if not, a decision
        holds until the node itself changes.
    """

    @property
    def always_decides(self) -> bool:
        """See above."""
        ...

    @property
    def needs_bounds(self) -> bool:
        """See above."""
        ...

    def decide(self, node: Node) -> Array:
        """`[]` int32, the action to take at the node, or `UNDECIDED` where chance must decide."""
        ...

    def decide_unvisited(self, prior_probs: Array) -> Array:
        """The same for a node none of whose actions was tried, from its `[A]` probabilities."""
        ...

    def __call__(
        self, rng_key: PRNGKey, tree: Any, node_index: Array | int, depth: Array | int = 0
    ) -> Array:
        """The action by mctx's own rule. The `rng_key` is consumed."""
        ...


@dataclasses.dataclass(frozen=True)
class OpaqueRule:
    """Any function with the signature of mctx's rules."""

    function: Callable[..., Array]
    always_decides: bool = False
    needs_bounds: bool = False

    def decide(self, node: Node) -> Array:
        """Never."""
        del node
        return jnp.int32(UNDECIDED)

    def decide_unvisited(self, prior_probs: Array) -> Array:
        """Never."""
        del prior_probs
        return jnp.int32(UNDECIDED)

    def __call__(self, *args: Any, **options: Any) -> Array:
        """What the function says."""
        return self.function(*args, **options)


def as_rule(function: Callable[..., Array]) -> Rule:
    """The function itself where it is a rule, or an `OpaqueRule` around it."""
    return cast(Rule, function) if hasattr(function, "decide") else OpaqueRule(function)


def highest(x: Array) -> Array:
    """`[]` greatest of `x [A]`."""
    return jax.lax.reduce(x, _least(x), lambda a, b: jnp.where(b > a, b, a), (0,))


def lowest(x: Array) -> Array:
    """`[]` smallest of `x [A]`, floating."""
    return jax.lax.reduce(x, -_least(x), lambda a, b: jnp.where(b < a, b, a), (0,))


def best_action(scores: Array) -> Array:
    """`[]` int32, the first of the greatest of `scores [A]`; 0 where all are -inf."""

    def better(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        return jnp.where(b[0] > a[0], b[0], a[0]), jnp.where(b[0] > a[0], b[1], a[1])

    actions = jnp.arange(scores.shape[0], dtype=jnp.int32)
    start = _least(scores), jnp.int32(0)
    return jax.lax.reduce((scores, actions), start, better, (0,))[1]


def _least(x: Array) -> Array:
    if jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.asarray(-jnp.inf, x.dtype)
    return jnp.asarray(jnp.iinfo(x.dtype).min, x.dtype)
