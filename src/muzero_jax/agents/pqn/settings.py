"""The settings of PQN. Nothing here imports JAX."""

import dataclasses

from muzero_jax.agents.settings import EpsilonConfig, OptimizerConfig
from muzero_jax.core.settings import Section, bounded, traced
from muzero_jax.networks.settings import NetworkConfig


@dataclasses.dataclass(frozen=True)
class LambdaTargetConfig(Section, name="target"):
    """What the action values are trained towards: the lambda-returns of the rollout."""

    discount: float = traced(0.99, 0, 1)
    """Traced: discount of one environment step (PQN: 0.99)."""
    td_lambda: float = traced(0.65, 0, 1)
    """Traced: lambda of the returns (PQN: 0.65)."""
    reward_unit: float = bounded(0.0, 0)
    """Rewards are divided by this much before anything is learned from them; 0 measures the unit
    from the first rollout on that has a reward (docs/learning.md)."""


@dataclasses.dataclass(frozen=True)
class EpochsConfig(Section, name="epochs"):
    """How often a rollout is learned from."""

    number: int = bounded(2, 1, 1_000)
    """Passes over the steps of a rollout, each in another order (PQN: 2 to 4)."""
    num_minibatches: int = bounded(4, 1, 100_000)
    """Parts of a pass, each of one step of the optimiser."""


@dataclasses.dataclass(frozen=True)
class PQNSettings(Section):
    """PQN: it acts by the best of the learned action values, and learns from each rollout once."""

    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    exploration: EpsilonConfig = dataclasses.field(
        default_factory=lambda: EpsilonConfig(epsilon=0.1)
    )
    target: LambdaTargetConfig = dataclasses.field(default_factory=LambdaTargetConfig)
    epochs: EpochsConfig = dataclasses.field(default_factory=EpochsConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
