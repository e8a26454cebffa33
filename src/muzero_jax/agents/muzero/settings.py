"""The settings of MuZero. Nothing here imports JAX.

"Paper" in a setting's line is MuZero (Schrittwieser et al. 2020, arXiv 1911.08265) unless another
is named.
"""

import dataclasses
from typing import Literal

from muzero_jax.agents.settings import ExplorationConfig, OptimizerConfig
from muzero_jax.core.checks import require
from muzero_jax.core.settings import Section, bounded, traced
from muzero_jax.networks.settings import NetworkConfig
from muzero_jax.replay.settings import ReplayConfig
from muzero_jax.search.settings import SearchConfig


@dataclasses.dataclass(frozen=True)
class TargetConfig(Section, name="target"):
    """What the networks are trained towards."""

    discount: float = traced(0.997, 0, 1)
    """Traced: discount of one environment step (paper: 0.997 Atari, 1 boards)."""
    reward_unit: float = bounded(0.0, 0)
    """Rewards are divided by this much before anything is learned from them; 0 measures the unit
    that suits the task until learning begins (docs/learning.md). What a run reports is not divided.
    """
    num_unroll_steps: int = bounded(5, 0, 10_000)
    """Model unroll steps K of the loss (paper: 5)."""
    td_steps: int = bounded(10, 0, 10_000)
    """Steps n of the value target (paper: 10; Reanalyze: 5); with 0 it is the searched value of the
    state itself, which does not depend on the action that was taken there."""
    td_lambda: float = bounded(1.0, 0, 1)
    """TD(lambda) mix of the 1- to n-step returns; 1 is the pure n-step return (paper)."""
    bootstrap: Literal["search", "network", "target_network"] = "target_network"
    """Value at the end of the n steps: search is the one stored when acting (paper), network the
    current parameters' value of the stored observation, target_network that of slow parameters."""
    target_update_rate: float = bounded(0.01, 0, 1)
    """target_network: share of the new parameters mixed into the slow ones at each update."""
    reanalyse_fraction: float = bounded(0.0, 0, 1)
    """Share of each batch whose policies and bootstrap values come from a fresh search with the
    bootstrap's parameters (paper, Reanalyze: 0.8)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.td_steps > 0 or self.bootstrap == "search" or self.reanalyse_fraction == 1,
            "target.td_steps 0 needs searched values: target.bootstrap search, or "
            f"target.reanalyse_fraction 1, found {self.bootstrap} and {self.reanalyse_fraction:g}.",
        )

    @property
    def window_length(self) -> int:
        """Rows that the targets of `num_unroll_steps + 1` states of `td_steps` each read."""
        return self.num_unroll_steps + self.td_steps + 1


@dataclasses.dataclass(frozen=True)
class LossConfig(Section, name="loss"):
    """Weights of the terms of the K-step unrolled loss."""

    policy_weight: float = traced(1.0, 0)
    """Traced: cross-entropy of the prior with the search policy (paper: 1)."""
    value_weight: float = traced(0.25, 0)
    """Traced: cross-entropy of the value (paper: 1; Reanalyze: 0.25)."""
    reward_weight: float = traced(1.0, 0)
    """Traced: cross-entropy of the reward (paper: 1)."""
    unrolled_weight: float = traced(1.0, 0)
    """Traced: weight of all unrolled states together; the root's is 1 (paper: 1)."""
    gradient_scale: float = traced(0.5, 0, 1)
    """Traced: scale of the gradient between an unrolled latent state and the one before (paper:
    0.5); 1 lets errors at depth reach every step of the model."""
    entropy_weight: float = traced(0.0, 0)
    """Traced: entropy of the prior over legal actions, subtracted; it undoes preferences that no
    Q-value supports and so keeps exploring alive (paper: 0; A3C: 0.01)."""
    label_width: float = bounded(0.0, 0, 10)
    """Standard deviation, in atoms, of the labels of values and rewards (HL-Gauss, Farebrother et
    al. 2024: 0.75); 0 for two-hot labels (paper)."""
    consistency_weight: float = bounded(0.0, 0)
    """Self-predictive consistency of unrolled with encoded latents; 0 leaves its heads out
    (EfficientZero, Ye et al. 2021: 2)."""


@dataclasses.dataclass(frozen=True)
class MuZeroSettings(Section):
    """MuZero with networks: it searches a learned model, and learns by unrolling it."""

    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    search: SearchConfig = dataclasses.field(default_factory=SearchConfig)
    exploration: ExplorationConfig = dataclasses.field(default_factory=ExplorationConfig)
    replay: ReplayConfig = dataclasses.field(default_factory=ReplayConfig)
    target: TargetConfig = dataclasses.field(default_factory=TargetConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.loss.consistency_weight == 0 or self.target.num_unroll_steps >= 1,
            f"loss.consistency_weight ({self.loss.consistency_weight:g}) compares unrolled states, "
            "but target.num_unroll_steps is 0.",
        )

    @property
    def window_length(self) -> int:
        """Consecutive steps of a replayed window."""
        return self.target.window_length
