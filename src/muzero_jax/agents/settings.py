"""The settings that several agents share. Nothing here imports JAX."""

import dataclasses
from typing import Literal

from muzero_jax.core.checks import require, require_range, require_types
from muzero_jax.core.settings import traced


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with global-norm clipping and a learning-rate schedule."""

    learning_rate: float = traced(1e-3)
    """Traced: peak learning rate (paper: 0.05 with momentum SGD; MuZero Unplugged: 1e-4 Adam)."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """Decay of the learning rate over all updates of the run, after the warm-up."""
    final_fraction: float = 0.0
    """Learning rate at the end of the decay, as a share of the peak."""
    warmup_updates: int = 100
    """Updates over which the learning rate rises linearly from 0."""
    weight_decay: float = traced(1e-4)
    """Traced: decoupled weight decay, multiplied by the learning rate (paper: 1e-4, L2)."""
    max_gradient_norm: float = traced(5.0)
    """Traced: the gradient is scaled down to this global norm."""

    def __post_init__(self) -> None:
        require_types("optimizer", self)
        require_range("optimizer", self, 0, None, "learning_rate", "warmup_updates")
        require_range("optimizer", self, 0, None, "weight_decay")
        require_range("optimizer", self, 0, 1, "final_fraction")
        require(
            self.max_gradient_norm > 0,
            f"optimizer.max_gradient_norm must be above 0, found {self.max_gradient_norm!r}.",
        )
