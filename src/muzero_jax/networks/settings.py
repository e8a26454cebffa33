"""The settings of the networks. Nothing here imports JAX."""

import dataclasses
import math
from typing import Literal

from muzero_jax.core.checks import require
from muzero_jax.core.settings import Section, bounded

# Of a layer; a support has two atoms for each unit of its half-width.
_WIDEST = 2**17
SIMPLEX_SIZE = 8
"""Entries of a latent state that share one softmax, where `latent` is simplex."""
_KINDS = ("auto", "mlp", "resnet")


@dataclasses.dataclass(frozen=True)
class NetworkConfig(Section, name="network"):
    """Representation, dynamics and prediction functions."""

    kind: str = "auto"
    """Architecture; auto takes mlp for vector observations and resnet for grids (paper: resnet);
    module:factory is a network of your own (see docs/agents.md)."""
    embedding_size: int = bounded(64, 1, _WIDEST)
    """mlp: width of the latent state."""
    hidden_sizes: tuple[int, ...] = (128,)
    """mlp: widths of the hidden layers of each of the three functions."""
    latent: Literal["min_max", "layer_norm", "simplex"] = "min_max"
    """How a latent state is kept in bounds: scaled to [0, 1] by its lowest and highest entry
    (paper), normalised to mean 0 and variance 1, or as softmaxes of 8 entries each (SimNorm,
    Hansen et al. 2024, arXiv 2310.16828)."""
    stem_channels: int = bounded(16, 0, _WIDEST)
    """mlp: channels of the 3x3 convolution that grid observations pass first; 0 for none."""
    num_channels: int = bounded(32, 1, _WIDEST)
    """resnet: channels of the latent state (paper: 256)."""
    num_blocks: int = bounded(1, 0, 1_000)
    """resnet: residual blocks of representation and of dynamics (paper: 16)."""
    downsample: int = bounded(0, 0, 30)
    """resnet: stride-2 convolutions before the residual blocks (paper, Atari: 96x96 to 6x6)."""
    head_hidden_size: int = bounded(64, 1, _WIDEST)
    """resnet: width of the hidden layer of each head."""
    support_size: int = bounded(30, 1, _WIDEST)
    """Half-width S of the transformed categorical support of 2 S + 1 atoms (paper: 300). Values and
    rewards x are told apart up to sqrt(|x| + 1) - 1 + 0.001 |x| = S times support_spacing: for a
    spacing of 1, up to 117 with S 10, 905 with S 30, 58,700 with S 300. What lies beyond is clipped
    and looks all the same; the metrics target/value_clipped and target/reward_clipped count it."""
    support_spacing: float = 1.0
    """Distance of neighbouring atoms, in units of the transformed value: the support reaches to S
    times this much; closer atoms tell smaller differences of value apart (paper: 1). Choose S times
    the spacing for the largest return, and the spacing for the smallest difference that matters."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the layers' arithmetic; parameters and losses stay float32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.is_own or self.kind in _KINDS,
            f"network.kind must be one of {', '.join(_KINDS)}, or MODULE:FACTORY for a network of "
            f"your own, found {self.kind!r}.",
        )
        require(
            0 < self.support_spacing < math.inf,
            f"network.support_spacing must be above 0 and finite, found {self.support_spacing!r}.",
        )
        require(
            min(self.hidden_sizes, default=0) >= 1 and max(self.hidden_sizes) <= _WIDEST,
            f"network.hidden_sizes must be one or more sizes between 1 and {_WIDEST:,}, "
            f"found {self.hidden_sizes}.",
        )

        widths = {"mlp": (self.embedding_size,), "resnet": (self.num_channels,)}
        checked = widths.get(self.kind, (self.embedding_size, self.num_channels))
        require(
            self.latent != "simplex" or all(width % SIMPLEX_SIZE == 0 for width in checked),
            f"network.latent simplex needs widths that are multiples of {SIMPLEX_SIZE}, found "
            f"network.embedding_size {self.embedding_size} and network.num_channels "
            f"{self.num_channels}.",
        )

    @property
    def is_own(self) -> bool:
        """Whether the architecture is the user's own, named `module:factory`."""
        return ":" in self.kind

    @property
    def num_bins(self) -> int:
        """Atoms of the support of values and rewards."""
        return 2 * self.support_size + 1
