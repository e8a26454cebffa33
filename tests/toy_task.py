"""The toy network of the search profiles, with rewards, ends and players, for tests of engines."""

import dataclasses

import jax
import jax.numpy as jnp

from muzero_jax.profiling.search_workloads import STEP_COSTS, ToyNetwork


@dataclasses.dataclass(frozen=True)
class ToyTask(ToyNetwork):
    """A toy network of another task.

    Attributes:
      mean_value: mean value of all states.
      discount: discount of every edge; negative where the players alternate.
      termination_rate: share of latents that end the episode, about.
      reward_scale: scale of the rewards.
    """

    mean_value: float = STEP_COSTS
    discount: float = 0.99
    termination_rate: float = 0.0
    reward_scale: float = 0.0

    def init(self, rng_key, dtype="float32"):
        """Weights of the network and of the task, so that tasks share compiled programs."""
        reward_key, end_key = jax.random.split(rng_key, 6)[4:]
        shape, scale = (self.embedding_size, 1), self.embedding_size**-0.5
        more = {
            "reward": jax.random.normal(reward_key, shape) * (scale * self.reward_scale),
            "end": jax.random.normal(end_key, shape) * scale,
            "end_threshold": jax.scipy.special.ndtri(1.0 - self.termination_rate),
            "discount": jnp.asarray(self.discount),
            "extra_value": jnp.asarray(self.mean_value - STEP_COSTS),
        }
        return super().init(rng_key, dtype) | {k: x.astype(dtype) for k, x in more.items()}

    def root(self, weights, rng_key, batch_size):
        root = super().root(weights, rng_key, batch_size)
        return root.replace(value=root.value + weights["extra_value"])

    def recurrent_fn(self, weights, rng_key, action, latent):
        output, latent = super().recurrent_fn(weights, rng_key, action, latent)
        ended = (latent @ weights["end"])[:, 0] > weights["end_threshold"]
        discount = jnp.where(ended, 0.0, weights["discount"]).astype(latent.dtype)
        value = output.value + weights["extra_value"]
        return output.replace(discount=discount, value=value), latent
