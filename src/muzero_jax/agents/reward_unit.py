"""The unit in which a learner measures rewards and values, found before it learns.

Networks, losses and searches are tuned for numbers of a certain size, and tasks pay in cents or in
millions. A learner that divides every reward by a unit of the task's own size needs no setting for
it. The division changes no optimal policy.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import Rollout
from muzero_jax.agents.definition import unchanged
from muzero_jax.core.types import Array, PyTree


class RewardUnit(struct.PyTreeNode):
    """The unit, and the sums that it was found from.

    The unit is the root mean square of the discounted sums of rewards that the rollouts before the
    first update hold, from each step to the end of its rollout; sums of exactly 0 do not count. It
    is fixed from the first update on. Where no reward was seen before, the first rollout that has
    one decides.

    Attributes:
      size: `[]` the unit, in the environment's rewards; 1 before any reward was seen.
      sum_squares: `[]` sum of the squared discounted sums of rewards.
      count: `[]` number of these sums.
    """

    size: Array
    sum_squares: Array
    count: Array

    @classmethod
    def fixed(cls, size: float = 1.0) -> "RewardUnit":
        """A unit that is known beforehand, or 1 until rewards are seen."""
        return cls(jnp.float32(size), jnp.float32(0.0), jnp.float32(0.0))

    def observed(
        self,
        rollout: Rollout,
        discount: Array | float,
        num_updates: Array,
        average: Callable[[PyTree], PyTree] = unchanged,
    ) -> "RewardUnit":
        """The unit after one more rollout.

        Args:
          rollout: the rollout.
          discount: `[]` of one step, negative where players alternate.
          num_updates: `[]` int32, the updates that were made before.
          average: averages over the shards of the run.
        """
        sums = jnp.abs(_discounted_sums(rollout, discount))
        counts = (sums > 0) & jnp.isfinite(sums)
        squares = jnp.square(jnp.where(counts, sums, 0.0)).sum()
        new = average((squares, counts.sum(dtype=jnp.float32)))
        may_change = (num_updates == 0) | (self.count == 0)
        sum_squares, count = (
            old + jnp.where(may_change, x, 0.0)
            for old, x in zip((self.sum_squares, self.count), new, strict=True)
        )
        found = jnp.where(count > 0, jnp.sqrt(sum_squares / jnp.maximum(count, 1e-9)), 1.0)
        return RewardUnit(jnp.where(may_change, found, self.size), sum_squares, count)


def _discounted_sums(rollout: Rollout, discount: Array | float) -> Array:
    """`[T, B]` discounted sums of rewards from each step to the end of its episode or rollout."""
    steps = rollout.transitions
    factor = discount * steps.discount * ~steps.truncated

    def backward(later: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, factor = step
        total = reward + factor * later
        return total, total

    start = jnp.zeros_like(steps.reward[0])
    _, totals = jax.lax.scan(backward, start, (steps.reward, factor), reverse=True)
    return totals
