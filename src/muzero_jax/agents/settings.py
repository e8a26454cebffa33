"""The settings that several agents share. Nothing here imports JAX."""

import dataclasses
from typing import Literal

from muzero_jax.core.checks import require
from muzero_jax.core.settings import Section, bounded, traced


@dataclasses.dataclass(frozen=True)
class EpsilonConfig(Section, name="exploration"):
    """Random actions in the place of the agent's own, while it acts to learn."""

    epsilon: float = traced(0.0, 0, 1)
    """Traced: probability of a random legal action in the place of the agent's own; where there is
    a longest_burst, of the begin of a burst. A deterministic task is otherwise seen from few sides
    (paper: 0; DQN: 0.1)."""
    epsilon_exponent: float = traced(0.0, 0)
    """Traced: exponent alpha that spreads epsilon over the environments, epsilon ** (1 + alpha i /
    (N - 1)) in the i-th of N, so that some explore much and some little (Ape-X, Horgan et al. 2018,
    section 4.1: 7 with epsilon 0.4)."""


@dataclasses.dataclass(frozen=True)
class ExplorationConfig(EpsilonConfig):
    """Actions that are others than the agent's own, while it acts to learn."""

    longest_burst: int = bounded(1, 1)
    """Most steps of a burst of random actions; a burst is longer than n steps with probability
    1 / (n + 1). Bursts lead further from what the agent prefers than single random actions do."""
    novelty_share: float = bounded(0.0, 0, 1)
    """Share of the environments that act for novelty alone, by a small Q-learner of how seldom
    everything was tried (agents/explorer.py); 0 learns no such values."""
    novelty_until: float = bounded(0.5, 0, 1)
    """Share of the run's updates after which these environments act as the others do, so that what
    is learned last is what the agent needs."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Section, name="optimizer"):
    """AdamW with global-norm clipping and a learning-rate schedule."""

    learning_rate: float = traced(1e-3, 0)
    """Traced: peak learning rate (paper: 0.05 with momentum SGD; MuZero Unplugged: 1e-4 Adam)."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """Decay of the learning rate over all updates of the run, after the warm-up."""
    final_fraction: float = bounded(0.0, 0, 1)
    """Learning rate at the end of the decay, as a share of the peak."""
    warmup_updates: int = bounded(100, 0)
    """Updates over which the learning rate rises linearly from 0."""
    weight_decay: float = traced(1e-4, 0)
    """Traced: decoupled weight decay, multiplied by the learning rate (paper: 1e-4, L2)."""
    max_gradient_norm: float = traced(5.0)
    """Traced: the gradient is scaled down to this global norm."""
    average_updates: int = bounded(0, 0)
    """Updates over which the evaluated parameters are averaged, by an exponential moving average
    (after Polyak and Juditsky 1992); 0 evaluates the last parameters."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.max_gradient_norm > 0,
            f"optimizer.max_gradient_norm must be above 0, found {self.max_gradient_norm!r}.",
        )
