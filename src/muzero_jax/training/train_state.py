"""What a run is made of between two chunks."""

import jax.numpy as jnp
from flax import struct

from muzero_jax.core.types import Array
from muzero_jax.training.collect import Collector
from muzero_jax.training.learn import Learner


class StepCount(struct.PyTreeNode):
    """A number of steps up to 2^64, which integers of 32 bits would not hold; pure.

    Attributes:
      low: `[]` uint32, the number modulo 2^32.
      high: `[]` uint32, how often 2^32 goes into it.
    """

    low: Array
    high: Array

    @classmethod
    def zero(cls) -> "StepCount":
        """The count before the first step."""
        return cls(jnp.zeros((), jnp.uint32), jnp.zeros((), jnp.uint32))

    def plus(self, num_steps: int) -> "StepCount":
        """The count after `num_steps` more, fewer than 2^32 at a time."""
        low = self.low + jnp.uint32(num_steps)
        return StepCount(low, self.high + (low < self.low).astype(jnp.uint32))

    def __int__(self) -> int:
        """The number, on the host."""
        return (int(self.high) << 32) + int(self.low)


class TrainState(Learner):
    """Everything a run is made of; saving it and restoring it continues the run bit for bit.

    Attributes:
      collector: where collecting is.
      num_env_steps: environment steps so far, over all environments.
    """

    collector: Collector
    num_env_steps: StepCount
