"""`make_search`: a search as agents see it, put together from a policy, its rules and an engine.

* A *policy* (gumbel.py, puct.py) is what surrounds the tree search: it adds noise to the root
  before the search, and reads an action and an improved policy from the tree after it.
* A *rule* (rules.py) chooses the action that a simulation takes at a node. The policy gives its
  rules to the engine: one for the roots, one for all other nodes.
* An *engine* (`mctx.search`, or engine.py) builds the trees by running the simulations. Every
  engine takes the same arguments and returns the same `mctx.Tree`.

Environments say which actions are legal (True = legal). Only this room turns their masks into
mctx's `invalid_actions`.
"""

import dataclasses
import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import mctx
from flax import struct
from mctx import RecurrentFnOutput as RecurrentFnOutput
from mctx import RootFnOutput as RootFnOutput
from mctx import Tree as Tree

from muzero_jax.core.types import Array, Params, PRNGKey
from muzero_jax.maths.masked_logits import finite_logits
from muzero_jax.search import engine
from muzero_jax.search.engine import RecurrentFn as RecurrentFn
from muzero_jax.search.gumbel import CompletedQValues, gumbel_policy
from muzero_jax.search.puct import PuctRule, puct_policy
from muzero_jax.search.root_policy import (
    RootPolicy,
    SearchTree,
    depths_by_doubling,
    depths_in_order,
    summarise_roots,
)
from muzero_jax.search.settings import SearchConfig


class SearchNoise(struct.PyTreeNode):
    """How much a search explores; scalars, so that a sweep can vary them.

    Attributes:
      gumbel_scale: scale of the root's Gumbel noise.
      dirichlet_alpha: concentration of the root's Dirichlet noise (PUCT).
      dirichlet_fraction: share of the Dirichlet noise in the root's prior (PUCT).
      temperature: softmax temperature over the visit counts (PUCT).
      prior_power: the root's prior is raised to this power.
    """

    gumbel_scale: Array | float
    dirichlet_alpha: Array | float
    dirichlet_fraction: Array | float
    temperature: Array | float
    prior_power: Array | float = 1.0

    @classmethod
    def none(cls) -> "SearchNoise":
        """No noise and no temperature, for evaluation and reanalysis."""
        return cls(0.0, 1.0, 0.0, 0.0)


class SearchOutput(struct.PyTreeNode):
    """What a search of a batch of roots found.

    Attributes:
      action: `[B]` int32, the action to take.
      action_weights: `[B, A]` the improved policy, a target for the prior.
      search_value: `[B]` the value of the root after the search (`SearchConfig.root_value`).
      depth_mean: `[B]` mean depth of the nodes in edges from the root.
      depth_max: `[B]` depth of the deepest node.
      tree: the searched trees, or None where they are not kept.
    """

    action: Array
    action_weights: Array
    search_value: Array
    depth_mean: Array
    depth_max: Array
    tree: mctx.Tree | None


@dataclasses.dataclass(frozen=True)
class Search:
    """Searches a batch of roots; `make_search` makes one.

    Attributes:
      config: the settings of the search.
      engine: the engine that builds the trees.
      depths_of: function that finds the depths of nodes from their parents.
    """

    config: SearchConfig
    engine: SearchTree
    depths_of: Callable[[Array], Array]

    def __call__(
        self,
        params: Params,
        rng_key: PRNGKey,
        root: RootFnOutput,
        recurrent_fn: RecurrentFn,
        legal_action_mask: Array,
        noise: SearchNoise,
    ) -> SearchOutput:
        """Runs the search.

        Args:
          params: parameters for `recurrent_fn`.
          rng_key: key of the noise and of tie-breaking; consumed.
          root: `(prior_logits [B, A], value [B], embedding [B, ...])`.
          recurrent_fn: `(params, rng_key, action [B], embedding)` to `(RecurrentFnOutput,
            embedding)`. The discount is negative where the next state's value is the opponent's.
          legal_action_mask: `[B, A]` bool mask at the root; inside the tree every action is tried.
          noise: how much the search explores.
        """
        chex.assert_rank([root.prior_logits, legal_action_mask], 2)
        chex.assert_equal_shape([root.prior_logits, legal_action_mask])
        config = self.config
        # Illegal actions must get lower logits than legal actions that a network masks.
        prior_logits = noise.prior_power * finite_logits(root.prior_logits)
        root = root.replace(prior_logits=prior_logits)
        search_tree = functools.partial(
            self.engine,
            params=params,
            recurrent_fn=recurrent_fn,
            max_depth=config.max_depth or None,
        )
        # The setting calls PUCT by the name of MuZero, whose policy it is.
        policy = (_gumbel_policy if config.policy == "gumbel" else _puct_policy)(config, noise)
        output = policy(
            search_tree, rng_key, root, ~legal_action_mask, num_simulations=config.num_simulations
        )
        depths = self.depths_of(output.tree.parents)
        num_nodes = jnp.maximum((output.tree.parents >= 0).sum(axis=1), 1)
        return SearchOutput(
            action=output.action,
            action_weights=output.action_weights,
            search_value=_root_value(config, output, root.value),
            depth_mean=depths.sum(axis=1) / num_nodes,
            depth_max=depths.max(axis=1),
            tree=output.tree,
        )


def make_search(config: SearchConfig) -> Search:
    """Returns the search that `config` describes."""
    return Search(config, *_engine(config.engine))


def _engine(name: str) -> tuple[SearchTree, Callable[[Array], Array]]:
    """Returns an engine, and a function for the depths of nodes that suits the same devices."""
    if name == "auto":
        name = "cpp" if jax.default_backend() == "cpu" else "mctx"
    if name == "mctx":
        return mctx.search, depths_by_doubling
    return functools.partial(engine.search, cpp=name == "cpp"), depths_in_order


def _gumbel_policy(config: SearchConfig, noise: SearchNoise) -> Callable[..., RootPolicy]:
    completed = CompletedQValues(config.value_scale, config.maxvisit_init, config.min_qvalue_range)
    return functools.partial(
        gumbel_policy,
        completed=completed,
        max_num_considered_actions=config.max_num_considered_actions,
        gumbel_scale=noise.gumbel_scale,
    )


def _puct_policy(config: SearchConfig, noise: SearchNoise) -> Callable[..., RootPolicy]:
    # A simulation visits a node once at most, and the root has a visit before the first simulation.
    rule = PuctRule(
        config.pb_c_init,
        config.pb_c_base,
        config.q_normalisation,
        max_visits=config.num_simulations + 1,
    )
    return functools.partial(
        puct_policy,
        rule=rule,
        by_qvalues=config.action_policy == "qvalues",
        dirichlet_alpha=noise.dirichlet_alpha,
        dirichlet_fraction=noise.dirichlet_fraction,
        temperature=noise.temperature,
    )


def _root_value(config: SearchConfig, output: RootPolicy, prior_value: Array) -> Array:
    """`[B]` values of the searched roots.

    An action that was not tried counts with the prior value, or with 0 where Q-values are not
    normalised, as in the search.
    """
    summary = summarise_roots(output.tree)
    if config.root_value == "mean":
        return summary.value
    untried = 0.0 if config.q_normalisation == "none" else prior_value[:, None]
    qvalues = jnp.where(summary.visits > 0, summary.qvalues, untried)
    return jnp.sum(output.action_weights * qvalues, axis=-1)
