"""MuZero with a flat latent state: dense dynamics, for vectors and for small grids."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from muzero_jax.core.types import Array
from muzero_jax.networks.blocks import MLP, MuZeroNetwork, scale_embedding


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
        return scale_embedding(self.representation_out(x).astype(jnp.float32))

    def dynamics(self, embedding: Array, action: Array) -> tuple[Array, Array, Array]:
        """Next latent states `[B, E]`, reward logits `[B, bins]` and continuation `[B]`."""
        onehot = jax.nn.one_hot(action, self.num_actions, dtype=embedding.dtype)
        hidden = self.transition(jnp.concatenate([embedding, onehot], axis=-1))
        change = self.transition_out(hidden).astype(jnp.float32)
        following = scale_embedding(embedding + change)
        return following, self.reward_head(hidden), self.continuation_of(following)
