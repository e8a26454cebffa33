"""MuZero with a spatial latent state: residual convolutions, for grids (MuZero, appendix F)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from muzero_jax.core.types import Array
from muzero_jax.networks.blocks import MLP, MuZeroNetwork, scale_embedding


class ResNetNetwork(MuZeroNetwork):
    """Representation, dynamics and prediction over a latent grid `[H', W', C]`."""

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
        return scale_embedding(x.astype(jnp.float32))

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
        following = scale_embedding(x.astype(jnp.float32))
        reward_logits = self.reward_head(self.reward_torso(x))
        return following, reward_logits, self.continuation_of(following)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a skip connection, pre-activation, `[B, H, W, C]`."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies the block."""
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
        """Applies the torso."""
        x = nn.relu(nn.LayerNorm(dtype=self.dtype)(x))
        x = nn.relu(nn.Conv(8, (1, 1), dtype=self.dtype)(x))
        return MLP((self.hidden_size,), self.dtype)(x.reshape((x.shape[0], -1)))
