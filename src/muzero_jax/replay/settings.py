"""The settings of the replay ring. Nothing here imports JAX."""

import dataclasses
import math

from muzero_jax.core.checks import require, require_range, require_types
from muzero_jax.core.settings import traced


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    """The on-device ring of transitions."""

    capacity: int = 50_000
    """Transitions kept, over all environments (paper: 125k games of 200 steps)."""
    min_size: int = 2_000
    """Transitions held before learning starts."""
    batch_size: int = 128
    """Windows a batch (paper: 1024 Atari, 2048 boards)."""
    ratio: float = 4.0
    """Replay ratio: windows learned from for each environment step (paper, Reanalyze: 2)."""
    prioritised: bool = False
    """Sample windows by the root value's distance from its target (before a window is first learned
    from: from the search value) instead of uniformly."""
    priority_exponent: float = traced(1.0)
    """Traced: exponent alpha of the priorities (paper: 1)."""
    importance_exponent: float = traced(1.0)
    """Traced: exponent beta of the importance weights (paper: 1)."""

    def __post_init__(self) -> None:
        require_types("replay", self)
        require_range("replay", self, 1, None, "capacity", "min_size", "batch_size")
        require_range("replay", self, 0, None, "priority_exponent")
        require_range("replay", self, 0, 1, "importance_exponent")
        require(
            0 < self.ratio < math.inf,
            f"replay.ratio must be above 0 and finite, found {self.ratio!r}.",
        )
        require(
            self.min_size <= self.capacity,
            f"replay.min_size ({self.min_size}) must not exceed replay.capacity ({self.capacity}).",
        )
