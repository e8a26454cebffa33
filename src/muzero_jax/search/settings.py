"""The settings of the tree search. Nothing here imports JAX."""

import dataclasses
import math
from typing import Literal

from muzero_jax.core.checks import require
from muzero_jax.core.settings import Section, bounded, traced


@dataclasses.dataclass(frozen=True)
class SearchConfig(Section, name="search"):
    """The tree search that acts, and that makes the policy targets."""

    policy: Literal["gumbel", "muzero"] = "gumbel"
    """gumbel: Gumbel MuZero with sequential halving (Danihelka et al. 2022); muzero: PUCT."""
    engine: Literal["auto", "cpp", "linear", "mctx"] = "auto"
    """linear: this project's search, whose cost follows the nodes passed through (docs/search.md);
    cpp: the same by a kernel in C++, where there is a compiler and code for the rules; mctx:
    `mctx.search`; all with the same results. auto: cpp on a CPU, where it is the fastest, and
    mctx elsewhere, where linear has one kernel only in name."""
    num_simulations: int = bounded(16, 1, 100_000)
    """Simulations a search (paper: 50 on Atari, 800 on boards)."""
    max_depth: int = bounded(0, 0)
    """Longest path from the root in tree edges; 0 for no limit."""
    max_num_considered_actions: int = bounded(16, 1)
    """gumbel: actions sampled at the root without replacement (Gumbel paper: 16)."""
    prior_power: float = traced(1.0, 0, 1)
    """Traced: power of the root's prior while acting and in Reanalyse. Below 1 a preference that no
    Q-value supports fades from search to search, instead of being its own target for ever (1: every
    published MuZero)."""
    gumbel_scale: float = traced(1.0, 0)
    """gumbel, traced: scale of the root's exploration noise while acting; evaluation uses 0."""
    value_scale: float = bounded(0.1, 0)
    """gumbel: scale c_scale of the completed Q-values (Gumbel paper: 0.1 on Atari, 1 in Go)."""
    maxvisit_init: float = bounded(50.0, 0)
    """gumbel: visit offset c_visit of the completed Q-values (Gumbel paper: 50)."""
    min_qvalue_range: float = bounded(0.1, 1e-8)
    """gumbel: Q-values of a node are scaled to [0, 1] by their range, or by this much, in units of
    value, where they lie closer; without it, noise between equal actions looks like a preference
    (mctx: 1e-8)."""
    q_normalisation: Literal["node", "tree", "none"] = "node"
    """muzero: scale Q-values to [0, 1] by those of the node and its children (mctx), or by the
    lowest and highest of the whole tree (paper), or not at all: an untried action then counts 0."""
    action_policy: Literal["visits", "qvalues"] = "visits"
    """muzero: the root's policy is visits ** (1 / temperature) (paper), or the softmax of its
    Q-values over the temperature."""
    root_value: Literal["policy", "mean"] = "policy"
    """Value of a searched state: policy weighs the root's Q-values by the improved policy; mean is
    the root's average backup (paper), which sequential halving biases towards bad actions."""
    dirichlet_alpha: float = traced(0.3)
    """muzero, traced: concentration of the root noise (paper: 0.25 Atari, 0.3 chess, 0.03 Go)."""
    dirichlet_fraction: float = traced(0.25, 0, 1)
    """muzero, traced: share of noise in the root's prior while acting (paper: 0.25)."""
    pb_c_init: float = bounded(1.25, 0)
    """muzero: constant c1 of PUCT (paper: 1.25)."""
    pb_c_base: float = 19652.0
    """muzero: constant c2 of PUCT (paper: 19652)."""
    temperature: float = traced(1.0, 0)
    """muzero, traced: softmax temperature over visit counts at the start of training (paper: 1)."""
    final_temperature: float = traced(0.25, 0)
    """muzero, traced: temperature at the end of training (paper: 0.25)."""
    temperature_decay: Literal["linear", "exponential"] = "linear"
    """muzero: how the temperature falls (paper: in steps)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 < self.pb_c_base < math.inf,
            f"search.pb_c_base must be above 0 and finite, found {self.pb_c_base!r}.",
        )
        require(
            self.q_normalisation == "node" or (self.policy, self.engine) == ("muzero", "linear"),
            f"search.q_normalisation {self.q_normalisation} needs search.policy muzero and "
            f"search.engine linear, found {self.policy} and {self.engine}.",
        )
        require(
            self.action_policy == "visits" or self.q_normalisation == "none",
            "search.action_policy qvalues needs search.q_normalisation none, in which an untried "
            f"action counts 0, found {self.q_normalisation}.",
        )
        require(
            self.temperature_decay == "linear" or min(self.temperature, self.final_temperature) > 0,
            "search.temperature_decay exponential needs temperatures above 0, found "
            f"{self.temperature:g} and {self.final_temperature:g}.",
        )
        require(
            0 < self.dirichlet_alpha < math.inf,
            f"search.dirichlet_alpha must be above 0 and finite, found {self.dirichlet_alpha!r}.",
        )
