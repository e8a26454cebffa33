"""MuZero's three functions as linen modules: dense over a flat latent, convolutions over a grid."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from muzero_jax.core.types import Array
from muzero_jax.networks.settings import SIMPLEX_SIZE


def scale_embedding(x: Array) -> Array:
    """Scales each latent state of a batch `[B, *E]` to [0, 1] (MuZero, appendix G).

    The epsilon keeps a state whose entries are all equal finite.
    """
    axes = tuple(range(1, x.ndim))
    low = x.min(axes, keepdims=True)
    return (x - low) / (x.max(axes, keepdims=True) - low + 1e-5)


def normalise_embedding(x: Array) -> Array:
    """Gives each latent state of a batch `[B, *E]` mean 0 and variance 1."""
    axes = tuple(range(1, x.ndim))
    centred = x - x.mean(axes, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(axes, keepdims=True) + 1e-5)


def simplex_embedding(x: Array) -> Array:
    """Softmaxes of neighbouring entries of `[B, ..., E]` latent states (SimNorm).

    Groups of `SIMPLEX_SIZE` entries share one softmax.
    """
    groups = x.reshape((*x.shape[:-1], -1, SIMPLEX_SIZE))
    return jax.nn.softmax(groups, axis=-1).reshape(x.shape)


BOUND_LATENT = {
    "min_max": scale_embedding,
    "layer_norm": normalise_embedding,
    "simplex": simplex_embedding,
}
"""The functions that keep latent states in bounds, by the names of `NetworkConfig.latent`."""


class MLP(nn.Module):
    """Dense layers, each followed by layer normalisation and ReLU: `[B, I]` to `[B, sizes[-1]]`."""

    sizes: Sequence[int]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies the layers to a batch."""
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
        """Applies the layers to a batch."""
        head = nn.Dense(self.size, dtype=self.dtype, kernel_init=nn.initializers.zeros)
        return head(x).astype(jnp.float32)


class Projector(nn.Module):
    """Projection of a latent state for the consistency loss (EfficientZero, figure 2)."""

    size: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, embedding: Array) -> Array:
        """Applies the layers to a batch."""
        flat = embedding.reshape((embedding.shape[0], -1))
        hidden = MLP((self.size,), self.dtype)(flat)
        return nn.Dense(self.size, dtype=self.dtype)(hidden).astype(jnp.float32)


class MuZeroNetwork(nn.Module):
    """The heads that every architecture shares.

    An architecture calls `setup_heads` in its `setup`, sets `prediction_torso`, and adds the
    methods `represent` and `dynamics`.

    Attributes:
      num_actions: `A`.
      num_bins: atoms of the support of values and rewards.
      continuation: the discount of every step: 1 for one player, -1 where two alternate.
      use_projection: whether to build the heads of the consistency loss.
      latent: how latent states are kept in bounds, see `NetworkConfig.latent`.
      dtype: dtype of the layers' arithmetic.
    """

    num_actions: int
    num_bins: int
    continuation: float
    use_projection: bool
    latent: str
    dtype: jnp.dtype

    def bound(self, embedding: Array) -> Array:
        """Latent states `[B, *E]` in bounds, in float32."""
        return BOUND_LATENT[self.latent](embedding.astype(jnp.float32))

    def setup_heads(self, projection_size: int) -> None:
        """Builds the output heads and, where asked for, those of the consistency loss."""
        self.policy_head = OutputHead(self.num_actions, self.dtype)
        self.value_head = OutputHead(self.num_bins, self.dtype)
        self.reward_head = OutputHead(self.num_bins, self.dtype)
        if self.use_projection:
            self.projector = Projector(projection_size, self.dtype)
            self.projection_predictor = Projector(projection_size, self.dtype)

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


class MLPNetwork(MuZeroNetwork):
    """Representation, dynamics and prediction as MLPs over a latent vector.

    A grid observation `[H, W, C]` first passes one 3x3 convolution, if it has `stem_channels`.
    """

    embedding_size: int
    hidden_sizes: Sequence[int]
    stem_channels: int

    def setup(self) -> None:
        """Builds the three functions."""
        if self.stem_channels:
            self.stem = nn.Conv(self.stem_channels, (3, 3), dtype=self.dtype)
        self.representation = MLP(self.hidden_sizes, self.dtype)
        self.representation_out = nn.Dense(self.embedding_size, dtype=self.dtype)
        self.transition = MLP(self.hidden_sizes, self.dtype)
        self.transition_out = nn.Dense(self.embedding_size, dtype=self.dtype)
        self.prediction_torso = MLP(self.hidden_sizes, self.dtype)
        self.setup_heads(projection_size=self.hidden_sizes[-1])

    def represent(self, observation: Array) -> Array:
        """`[B, ...]` observations to `[B, E]` latent states."""
        x = observation.astype(self.dtype)
        if x.ndim == 4 and self.stem_channels:
            x = nn.relu(self.stem(x))
        x = self.representation(x.reshape((x.shape[0], -1)))
        return self.bound(self.representation_out(x))

    def dynamics(self, embedding: Array, action: Array) -> tuple[Array, Array, Array]:
        """Next latent states `[B, E]`, reward logits `[B, bins]` and continuation `[B]`."""
        onehot = jax.nn.one_hot(action, self.num_actions, dtype=embedding.dtype)
        hidden = self.transition(jnp.concatenate([embedding, onehot], axis=-1))
        change = self.transition_out(hidden).astype(jnp.float32)
        continuation = jnp.full(embedding.shape[0], self.continuation)
        return self.bound(embedding + change), self.reward_head(hidden), continuation


class ResNetNetwork(MuZeroNetwork):
    """Representation, dynamics and prediction over a latent grid `[H', W', C]` (appendix F)."""

    num_channels: int
    num_blocks: int
    downsample: int
    head_hidden_size: int

    def setup(self) -> None:
        """Builds the three functions."""
        channels, dtype = self.num_channels, self.dtype
        strides = [2] * self.downsample or [1]
        self.stem = [nn.Conv(channels, (3, 3), strides=s, dtype=dtype) for s in strides]
        self.representation = [ResidualBlock(dtype) for _ in range(self.num_blocks)]
        self.transition_in = nn.Conv(channels, (3, 3), dtype=dtype)
        self.transition = [ResidualBlock(dtype) for _ in range(self.num_blocks)]
        self.reward_torso = HeadTorso(self.head_hidden_size, dtype)
        self.prediction_torso = HeadTorso(self.head_hidden_size, dtype)
        self.setup_heads(projection_size=self.head_hidden_size)

    def represent(self, observation: Array) -> Array:
        """`[B, H, W, C]` observations to `[B, H', W', num_channels]` latent states."""
        x = observation.astype(self.dtype)
        for convolution in self.stem:
            x = nn.relu(convolution(x))
        for block in self.representation:
            x = block(x)
        return self.bound(x)

    def dynamics(self, embedding: Array, action: Array) -> tuple[Array, Array, Array]:
        """Next latent states, reward logits `[B, bins]` and continuation `[B]`.

        The actions enter as one-hot planes.
        """
        onehot = jax.nn.one_hot(action, self.num_actions, dtype=embedding.dtype)
        planes = jnp.broadcast_to(onehot[:, None, None], (*embedding.shape[:3], self.num_actions))
        x = self.transition_in(jnp.concatenate([embedding, planes], axis=-1))
        x = x + embedding.astype(x.dtype)
        for block in self.transition:
            x = block(x)
        # The latent comes before the reward: gradients are added in the reverse order of the uses.
        following = self.bound(x)
        reward_logits = self.reward_head(self.reward_torso(x))
        return following, reward_logits, jnp.full(embedding.shape[0], self.continuation)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a skip connection, pre-activation, `[B, H, W, C]`."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies the layers to a batch."""
        y = x
        for _ in range(2):
            y = nn.relu(nn.LayerNorm(dtype=self.dtype)(y))
            y = nn.Conv(x.shape[-1], (3, 3), dtype=self.dtype)(y)
        return x + y


class HeadTorso(nn.Module):
    """A 1x1 convolution to few channels and a dense layer: `[B, H, W, C]` to `[B, hidden]`."""

    hidden_size: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies the layers to a batch."""
        x = nn.relu(nn.LayerNorm(dtype=self.dtype)(x))
        x = nn.relu(nn.Conv(8, (1, 1), dtype=self.dtype)(x))
        return MLP((self.hidden_size,), self.dtype)(x.reshape((x.shape[0], -1)))
