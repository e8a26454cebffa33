"""Parts that the architectures share: layers, heads, latent scaling, projection heads."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn

from muzero_jax.core.types import Array


def scale_embedding(x: Array) -> Array:
    """Scales each latent state of a batch `[B, *E]` to [0, 1] (MuZero, appendix G).

    The epsilon keeps a state whose entries are all equal finite.
    """
    axes = tuple(range(1, x.ndim))
    low = x.min(axes, keepdims=True)
    return (x - low) / (x.max(axes, keepdims=True) - low + 1e-5)


class MLP(nn.Module):
    """Dense layers, each followed by layer normalisation and ReLU: `[B, I]` to `[B, sizes[-1]]`."""

    sizes: Sequence[int]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies the layers."""
        for size in self.sizes:
            x = nn.Dense(size, dtype=self.dtype)(x)
            x = nn.relu(nn.LayerNorm(dtype=self.dtype)(x))
        return x


class OutputHead(nn.Module):
    """A dense layer that begins at 0, so that a fresh network is indifferent: float32 logits."""

    size: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies the layer to `[B, I]`."""
        head = nn.Dense(self.size, dtype=self.dtype, kernel_init=nn.initializers.zeros)
        return head(x).astype(jnp.float32)


class Projector(nn.Module):
    """Projection of a latent state for the consistency loss (EfficientZero, figure 2)."""

    size: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, embedding: Array) -> Array:
        """`[B, *E]` to `[B, size]`."""
        flat = embedding.reshape((embedding.shape[0], -1))
        hidden = MLP((self.size,), self.dtype)(flat)
        return nn.Dense(self.size, dtype=self.dtype)(hidden).astype(jnp.float32)


class MuZeroNetwork(nn.Module):
    """The heads and the calling convention that every architecture shares.

    An architecture calls `setup_heads` in its `setup`, sets `prediction_torso`, and adds the
    methods `represent` and `dynamics`.

    Attributes:
      num_actions: `A`.
      num_bins: atoms of the support of values and rewards.
      continuation: the discount of every step: 1 for one player, -1 where two alternate.
      use_projection: whether to build the heads of the consistency loss.
      dtype: dtype of the layers' arithmetic.
    """

    num_actions: int
    num_bins: int
    continuation: float
    use_projection: bool
    dtype: jnp.dtype

    def setup_heads(self, projection_size: int) -> None:
        """Builds the output heads and, where asked for, those of the consistency loss."""
        self.policy_head = OutputHead(self.num_actions, self.dtype)
        self.value_head = OutputHead(self.num_bins, self.dtype)
        self.reward_head = OutputHead(self.num_bins, self.dtype)
        if self.use_projection:
            self.projector = Projector(projection_size, self.dtype)
            self.projection_predictor = Projector(projection_size, self.dtype)

    def continuation_of(self, embedding: Array) -> Array:
        """`[B]` the continuation of the steps that led to latent states `[B, *E]`."""
        return jnp.full(embedding.shape[0], self.continuation)

    def predict(self, embedding: Array) -> tuple[Array, Array]:
        """Prior logits `[B, A]` and value logits `[B, bins]`."""
        hidden = self.prediction_torso(embedding)
        return self.policy_head(hidden), self.value_head(hidden)

    def project(self, embedding: Array) -> Array:
        """`[B, D]` projections for the consistency loss."""
        return self.projector(embedding)

    def predict_projection(self, projection: Array) -> Array:
        """`[B, D]` predictions of the projections of the next encoded latent states."""
        return self.projection_predictor(projection)
