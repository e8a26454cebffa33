"""The settings of the replay ring. Nothing here imports JAX."""

import dataclasses
import math

from muzero_jax.core.checks import require
from muzero_jax.core.settings import Section, bounded, traced


@dataclasses.dataclass(frozen=True)
class ReplayConfig(Section, name="replay"):
    """The on-device ring of transitions."""

    capacity: int = bounded(50_000, 1)
    """Transitions kept, over all environments (paper: 125k games of 200 steps)."""
    min_size: int = bounded(2_000, 1)
    """Transitions held before learning starts."""
    batch_size: int = bounded(128, 1)
    """Windows a batch (paper: 1024 Atari, 2048 boards)."""
    ratio: float = 4.0
    """Replay ratio: windows learned from for each environment step (paper, Reanalyze: 2)."""
    recency: float = bounded(0.0, 0)
    """Uniform sampling's preference for new windows: the age of a window, as a share of the oldest
    one's, is u ** (1 + recency) for a uniform u. With 2, three in five windows come from the newest
    fifth, and the rest keeps what is old from being forgotten; 0 prefers none (emphasising recent
    experience: Wang and Ross 2019, arXiv 1906.04009)."""
    prioritised: bool = False
    """Sample windows by the root value's distance from its target (before a window is first learned
    from: from the search value) instead of uniformly."""
    priority_exponent: float = traced(1.0, 0)
    """Traced: exponent alpha of the priorities (paper: 1)."""
    importance_exponent: float = traced(1.0, 0, 1)
    """Traced: exponent beta of the importance weights (paper: 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not (self.recency and self.prioritised),
            "replay.recency is for uniform sampling; set it to 0 where replay.prioritised is true.",
        )
        require(
            0 < self.ratio < math.inf,
            f"replay.ratio must be above 0 and finite, found {self.ratio!r}.",
        )
        require(
            self.min_size <= self.capacity,
            f"replay.min_size ({self.min_size}) must not exceed replay.capacity ({self.capacity}).",
        )
