"""Trees that the kernel in C++ grows (cpp/): the rules of this project, in float32, on a CPU.

A node is a record of 32-bit words, integers and floats, in the order that `cpp/tree.h` gives. The
kernel computes the same numbers in the same order as XLA's kernel.
"""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import mctx
import numpy as np

from muzero_jax.core.types import Array, PRNGKey, PyTree
from muzero_jax.search import cpp_library
from muzero_jax.search.gumbel import (
    CompletedQValues,
    ImprovedPolicyRule,
    SequentialHalvingRule,
    considered_visits,
)
from muzero_jax.search.nodes import Leaf, Roots, values_of_children
from muzero_jax.search.puct import PuctRule
from muzero_jax.search.row_call import RowCall
from muzero_jax.search.rules import TreeSpec

_HEAD_WORDS = 6
_LEAF_WORDS = 7
_WORDS_PER_CACHE_LINE = 16


def cpp_trees(
    spec: TreeSpec, root: mctx.RootFnOutput, roots: Roots, rng_key: PRNGKey
) -> "_CppTrees | None":
    """Returns trees for a search, or None where the kernel has no code for the search.

    Args:
      spec: rules and sizes of the trees.
      root: the network's output at the roots.
      roots: what only the rule at a root may read.
      rng_key: the key of the search; only its type is read.
    """
    rule, max_depth = spec.root_rule, spec.max_depth
    are_floats = root.prior_logits.dtype == root.value.dtype == jnp.float32
    is_something = len(root.value) > 0 and spec.num_nodes > 1
    is_place = jax.default_backend() == "cpu" and not jax.config.values["jax_enable_x64"]
    if not (isinstance(max_depth, int) and are_floats and is_something and is_place):
        return None
    # A class that is derived from one of these rules may decide otherwise.
    if type(rule) is SequentialHalvingRule:
        is_known = _has_numbers(rule.completed)
        has_code = is_known and spec.interior_rule == ImprovedPolicyRule(rule.completed)
    elif type(rule) is PuctRule:
        is_known = _has_numbers(rule) and rule.scaling == "node" and _is_default_key(rng_key)
        has_code = is_known and spec.interior_rule == rule
    else:
        return None
    if not (has_code and cpp_library.is_available()):
        return None
    return _CppTrees(rule, root, roots, spec.num_nodes, max_depth)


@dataclasses.dataclass(frozen=True)
class _CppTrees:
    """See `engine.Trees`.

    Attributes:
      root_rule: the rule at the roots, which determines the rule below them.
      root: the network's output at the roots.
      roots: what only the rule at a root may read.
      num_nodes: room in each tree, `N + 1`.
      max_depth: longest path from a root, in edges.
    """

    root_rule: SequentialHalvingRule | PuctRule
    root: mctx.RootFnOutput
    roots: Roots
    num_nodes: int
    max_depth: int

    def plant(self, rng_key: PRNGKey, embeddings: PyTree) -> tuple[Array, Leaf]:
        del embeddings
        root = self.root
        batch_size, num_actions = root.prior_logits.shape
        num_words = _Words(num_actions).per_node
        records = jnp.zeros((batch_size * self.num_nodes, num_words), jnp.int32)
        links = jnp.full((batch_size, _LEAF_WORDS), mctx.Tree.UNVISITED, jnp.int32)
        if isinstance(self.root_rule, PuctRule):
            # The kernel makes the keys of a row from the key of the search and the row number.
            key = jax.lax.bitcast_convert_type(jax.random.key_data(rng_key), jnp.int32)
            parts = jnp.tile(key, (batch_size, 1)), jnp.arange(batch_size)[:, None]
            links = jnp.concatenate([links[:, :4], *parts], axis=1)
        nothing = jnp.zeros_like(root.value)
        step = mctx.RecurrentFnOutput(
            reward=nothing, discount=nothing, prior_logits=root.prior_logits, value=root.value
        )
        return self._simulate(records, Leaf(links), step)

    def grow(
        self,
        records: Array,
        leaf: Leaf,
        step: mctx.RecurrentFnOutput,
        numbers: Array,
        rng_key: PRNGKey,
        embeddings: PyTree,
    ) -> tuple[Array, Leaf]:
        del numbers, rng_key, embeddings  # The kernel counts the nodes and makes the keys itself.
        return self._simulate(records, leaf, step)

    def as_tree(self, records: Array, embeddings: PyTree) -> mctx.Tree:
        batch_size, num_actions = self.root.prior_logits.shape
        words = _Words(num_actions)
        integers = records.reshape(batch_size, self.num_nodes, -1)
        floats = jax.lax.bitcast_convert_type(integers, jnp.float32)
        visit_count = floats[..., words.visit_count].astype(jnp.int32)
        # With a depth limit some records are never written; they are all zeros.
        exists = visit_count > 0

        def link(x: Array) -> Array:
            return jnp.where(exists.reshape(*exists.shape, *[1] * (x.ndim - 2)), x, -1)

        children = link(integers[..., words.children])
        return mctx.Tree(
            node_visits=visit_count,
            raw_values=floats[..., words.raw_value],
            node_values=floats[..., words.value],
            parents=link(integers[..., words.parent]),
            action_from_parent=link(integers[..., words.action]),
            children_index=children,
            children_prior_logits=floats[..., words.prior_logits],
            children_values=values_of_children(floats[..., words.value], children),
            children_visits=floats[..., words.visits].astype(jnp.int32),
            children_rewards=values_of_children(floats[..., words.reward], children),
            children_discounts=values_of_children(floats[..., words.discount], children),
            embeddings=embeddings,
            root_invalid_actions=self.roots.invalid_actions,
            extra_data=self.roots.extra_data,
        )

    def _simulate(
        self, records: Array, leaf: Leaf, step: mctx.RecurrentFnOutput
    ) -> tuple[Array, Leaf]:
        """Adds a node to each tree, backs its value up, and finds the next leaves."""
        name, of_rows, shared, attributes = self._rule_arguments()
        batch_size, num_actions = self.roots.invalid_actions.shape
        # The kernel does not check shapes.
        chex.assert_shape([step.reward, step.discount, step.value], (batch_size,))
        chex.assert_shape([step.prior_logits, *of_rows], (batch_size, num_actions))
        chex.assert_shape(records, (None, _Words(num_actions).per_node))

        def run(num_rows: int, state: PyTree, inputs: PyTree, shared: PyTree) -> PyTree:
            del num_rows
            shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in state]
            call = jax.ffi.ffi_call(name, shapes, input_output_aliases={0: 0, 1: 1})
            return call(*state, *inputs[0], *[x[0] for x in shared], **attributes)

        numbers = step.prior_logits, step.value, step.reward, step.discount
        inputs = [x.astype(jnp.float32) for x in numbers]
        inputs += [(self.roots.invalid_actions != 0).astype(jnp.int32), *of_rows]
        call = RowCall(run, len(leaf.links))
        records, links = call([records, leaf.links], inputs, shared)
        return records, Leaf(links)

    def _rule_arguments(self) -> tuple[str, list[Array], list[Array], dict[str, Any]]:
        """Name of the kernel's function, arrays with rows, arrays without rows, and attributes."""
        rule = self.root_rule
        attributes: dict[str, Any] = {"max_depth": np.int32(self.max_depth)}
        if isinstance(rule, PuctRule):
            weights = _prior_weights(rule, self.num_nodes)
            return "muzero_search_puct", [], [weights], attributes
        table = considered_visits(rule.max_num_considered_actions, rule.num_simulations)
        attributes |= {
            name: np.float32(getattr(rule.completed, name))
            for name in ("value_scale", "maxvisit_init", "min_range")
        }
        gumbel = self.roots.extra_data.root_gumbel.astype(jnp.float32)
        return "muzero_search_gumbel", [gumbel], [jnp.asarray(table)], attributes


def _has_numbers(rule: CompletedQValues | PuctRule) -> bool:
    """Whether the settings of a rule are numbers; arrays may be traced."""
    is_own = type(rule) in (CompletedQValues, PuctRule)
    return is_own and not any(isinstance(value, jax.Array) for value in vars(rule).values())


def _is_default_key(rng_key: PRNGKey) -> bool:
    """Whether the kernel can compute the random numbers that JAX draws with a key."""
    is_typed = jnp.issubdtype(rng_key.dtype, jax.dtypes.prng_key)
    is_partitionable = jax.config.values["jax_threefry_partitionable"]
    return is_typed and is_partitionable and str(jax.random.key_impl(rng_key)) == "threefry2x32"


def _prior_weights(rule: PuctRule, num_nodes: int) -> Array:
    """`[2, N + 2]` weights of the prior by the number of visits of a node.

    The first row is computed by NumPy, as in the rule; the second is rounded as in mctx, which
    computes it with XLA. If the compiler knew the visits, it would compute the logarithm itself,
    with another last digit.
    """
    visits = np.arange(num_nodes + 1, dtype=np.int32)
    as_mctx = rule.prior_weight(jax.lax.optimization_barrier(jnp.asarray(visits)), jnp)
    rows = rule.prior_weight(visits, np), as_mctx
    return jnp.stack([jnp.asarray(row, jnp.float32) for row in rows])


class _Words:
    """Positions of the words of a record: `Head` and `Layout` of cpp/tree.h."""

    parent, action, reward, discount = 0, 1, 4, 5

    def __init__(self, num_actions: int):
        def part(start: int) -> slice:
            return slice(_HEAD_WORDS + start, _HEAD_WORDS + start + num_actions)

        self.prior_logits = part(0)
        self.raw_value = _HEAD_WORDS + num_actions
        self.visits = part(3 * num_actions + 1)
        self.value = _HEAD_WORDS + 4 * num_actions + 1
        self.visit_count = self.value + 1
        self.children = part(4 * num_actions + 3)
        self.per_node = -(-self.children.stop // _WORDS_PER_CACHE_LINE) * _WORDS_PER_CACHE_LINE
