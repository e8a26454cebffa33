"""How much of what MuZero's networks are trained towards lies beyond their support."""

import jax.numpy as jnp

from muzero_jax.agents.muzero.targets import Targets
from muzero_jax.core.types import Array, Metrics
from muzero_jax.maths.value_support import is_beyond_support


def clipped_share(targets: Targets, support_size: int, spacing: float) -> Metrics:
    """`target/value_clipped` and `target/reward_clipped`: shares of targets beyond the support.

    A target beyond the support is trained as the support's edge, so that the networks cannot tell
    it from any other one beyond. Masked targets are not counted.

    Args:
      targets: the targets of a batch.
      support_size: half-width S of the support, in atoms.
      spacing: distance of neighbouring atoms, see `maths.value_support`.
    """

    def share(x: Array, mask: Array) -> Array:
        is_clipped = mask & is_beyond_support(x, support_size, spacing)
        return is_clipped.sum(dtype=jnp.float32) / jnp.maximum(mask.sum(dtype=jnp.float32), 1.0)

    return {
        "target/value_clipped": share(targets.value, targets.value_mask),
        "target/reward_clipped": share(targets.reward, targets.reward_mask),
    }


def largest_size(targets: Targets) -> Metrics:
    """`target/value_largest` and `target/reward_largest`: absolute values, of unmasked targets."""

    def largest(x: Array, mask: Array) -> Array:
        return jnp.max(jnp.where(mask, jnp.abs(x), 0.0), initial=0.0)

    return {
        "target/value_largest": largest(targets.value, targets.value_mask),
        "target/reward_largest": largest(targets.reward, targets.reward_mask),
    }
