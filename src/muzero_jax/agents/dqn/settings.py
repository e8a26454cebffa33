"""The settings of DQN and of what was added to it since. Nothing here imports JAX."""

import dataclasses

from muzero_jax.agents.settings import EpsilonConfig, OptimizerConfig
from muzero_jax.core.settings import Section, bounded, traced
from muzero_jax.networks.settings import NetworkConfig
from muzero_jax.replay.settings import ReplayConfig


@dataclasses.dataclass(frozen=True)
class QTargetConfig(Section, name="target"):
    """What the action values are trained towards."""

    discount: float = traced(0.99, 0, 1)
    """Traced: discount of one environment step (DQN: 0.99)."""
    reward_unit: float = bounded(0.0, 0)
    """Rewards are divided by this much before anything is learned from them; 0 measures the unit
    that suits the task until learning begins (docs/learning.md; DQN clips rewards instead)."""
    td_steps: int = bounded(1, 1, 10_000)
    """Steps n of the returns (DQN: 1; Rainbow: 3; data-efficient Rainbow: 20)."""
    target_update_rate: float = bounded(0.01, 0, 1)
    """Share of the new parameters mixed into the slow ones at each update; 1 has no slow ones (DQN
    copies them every 10,000 steps)."""
    double: bool = False
    """The parameters that are learned choose the best action of the next state, and the slow ones
    value it (Double DQN, van Hasselt et al. 2016, arXiv 1509.06461)."""


@dataclasses.dataclass(frozen=True)
class QValueConfig(Section, name="qvalue"):
    """How the values of actions are represented and fitted."""

    dueling: bool = False
    """A value is the sum of one of the state and one of the action's advantage (Wang et al. 2016,
    arXiv 1511.06581)."""
    categorical: bool = False
    """A value is a distribution over the atoms of the network's support, fitted by cross-entropy to
    its target (as MuZero's values are; Farebrother et al. 2024, arXiv 2403.03950), and no
    number."""
    label_width: float = bounded(0.0, 0, 10)
    """categorical: standard deviation of the labels, in atoms (0.75 there); 0 for two-hot labels.
    """
    huber_width: float = bounded(1.0, 1e-6)
    """not categorical: errors up to this much, in units of reward, are squared, and larger ones
    grow linearly (DQN: 1)."""


@dataclasses.dataclass(frozen=True)
class UnrolledConfig(Section, name="unrolled"):
    """A learned model whose loss shapes the representation; nothing else ever asks it."""

    weight: float = bounded(0.0, 0)
    """Weight of all unrolled states together; the first state's is 1. 0 has no model."""
    num_steps: int = bounded(5, 1, 10_000)
    """Unroll steps K (MuZero: 5)."""
    gradient_scale: float = traced(0.5, 0, 1)
    """Traced: scale of the gradient between an unrolled latent state and the one before."""


@dataclasses.dataclass(frozen=True)
class DQNSettings(Section):
    """DQN: it acts by the best of the learned action values, and learns from replayed windows."""

    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    exploration: EpsilonConfig = dataclasses.field(
        default_factory=lambda: EpsilonConfig(epsilon=0.1)
    )
    replay: ReplayConfig = dataclasses.field(default_factory=ReplayConfig)
    target: QTargetConfig = dataclasses.field(default_factory=QTargetConfig)
    qvalue: QValueConfig = dataclasses.field(default_factory=QValueConfig)
    unrolled: UnrolledConfig = dataclasses.field(default_factory=UnrolledConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)

    @property
    def num_unroll_steps(self) -> int:
        """Steps K that the model is unrolled; 0 without one."""
        return self.unrolled.num_steps if self.unrolled.weight > 0 else 0

    @property
    def window_length(self) -> int:
        """Rows that the returns of `num_unroll_steps + 1` states of `td_steps` each read."""
        return self.num_unroll_steps + self.target.td_steps + 1
