"""A network to measure searches with: random, and of the depth that trained networks search to.

What a search costs depends on how deep its trees grow. A fresh network with zero heads grows flat
ones and under-states the cost several times; and where the latent shrinks from step to step, so do
the differences between values and priors. Here the latent has unit root mean square at every depth.
"""

import dataclasses

import jax
import jax.numpy as jnp

from muzero_jax.core.types import Array, PRNGKey
from muzero_jax.search.policies import RecurrentFnOutput, RootFnOutput

Weights = dict[str, Array]

# The value of a task that costs something at every step, so that a longer path looks better.
STEP_COSTS = -16.0


@dataclasses.dataclass(frozen=True)
class ToyNetwork:
    """Two dense layers and linear heads.

    Attributes:
      num_actions: A.
      embedding_size: E, and the width of the layers.
      sharpness: scale of the prior logits: 1 is flat (about 80 % of the greatest entropy at four
        actions), 6 is sharp (about 15 %).
      mean_value: mean value of all states.
      discount: discount of every edge; negative where the players alternate.
      termination_rate: share of latents that end the episode, about.
      reward_scale: scale of the rewards.
    """

    num_actions: int
    embedding_size: int = 64
    sharpness: float = 1.0
    mean_value: float = STEP_COSTS
    discount: float = 0.99
    termination_rate: float = 0.0
    reward_scale: float = 0.0

    def init(self, rng_key: PRNGKey, dtype: str = "float32") -> Weights:
        """Random weights of a floating `dtype`."""
        size, keys = self.embedding_size, jax.random.split(rng_key, 6)
        scale = size**-0.5
        shapes = {
            "encode": ((size + self.num_actions, size), (2 / size) ** 0.5),
            "mix": ((size, size), (2 / size) ** 0.5),
            "policy": ((size, self.num_actions), 1.4 * scale * self.sharpness),
            "value": ((size, 1), 0.8 * scale),
            "reward": ((size, 1), scale * self.reward_scale),
            "end": ((size, 1), scale),
        }
        return {
            name: (jax.random.normal(key, shape) * gain).astype(dtype)
            for key, (name, (shape, gain)) in zip(keys, shapes.items(), strict=True)
        }

    def root(self, weights: Weights, rng_key: PRNGKey, batch_size: int) -> RootFnOutput:
        """Roots `[B]` at random latents.

        Args:
          weights: the weights of the network.
          rng_key: consumed.
          batch_size: `B`.
        """
        latent = jax.random.normal(rng_key, (batch_size, self.embedding_size))
        latent = latent.astype(weights["mix"].dtype)
        return RootFnOutput(
            prior_logits=latent @ weights["policy"],
            value=(latent @ weights["value"])[:, 0] + self.mean_value,
            embedding=latent,
        )

    def recurrent_fn(
        self, weights: Weights, rng_key: PRNGKey, action: Array, latent: Array
    ) -> tuple[RecurrentFnOutput, Array]:
        """The model, as searches call it.

        Args:
          weights: the weights of the network.
          rng_key: not consumed.
          action: `[B]` int32.
          latent: `[B, E]`.
        """
        del rng_key
        one_hot = jax.nn.one_hot(action, self.num_actions, dtype=latent.dtype)
        latent = jax.nn.relu(jnp.concatenate([latent, one_hot], axis=-1) @ weights["encode"])
        latent = jax.nn.relu(latent @ weights["mix"])
        latent *= jax.lax.rsqrt(1e-6 + jnp.mean(latent * latent, axis=-1, keepdims=True))
        output = RecurrentFnOutput(
            reward=(latent @ weights["reward"])[:, 0],
            discount=jnp.full(action.shape, self.discount, latent.dtype),
            prior_logits=latent @ weights["policy"],
            value=(latent @ weights["value"])[:, 0] + self.mean_value,
        )
        if self.termination_rate:
            threshold = jax.scipy.special.ndtri(1 - self.termination_rate)
            ended = (latent @ weights["end"])[:, 0] > threshold
            output = output.replace(discount=jnp.where(ended, 0.0, output.discount))
        return output, latent
