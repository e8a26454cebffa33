"""What a run is made of between two chunks."""

import jax.numpy as jnp
from flax import struct

from muzero_jax.core.types import Array, PRNGKey, PyTree, TimeStep
from muzero_jax.envs.base import EnvState
from muzero_jax.replay.buffer import ReplayState


class FirstFailure(struct.PyTreeNode):
    """The first update whose metrics were not finite; neither it nor any later one is applied.

    Attributes:
      update: `[]` int32, which update, or -1.
      term: `[]` int32, index of the offending metric in `Train.learn_metric_names`.
    """

    update: Array
    term: Array


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


class TrainState(struct.PyTreeNode):
    """Everything a run is made of; saving it and restoring it continues the run bit for bit.

    Attributes:
      agent: the agent's state.
      replay: the ring.
      env_state: of `num_envs` auto-resetting environments.
      timestep: `[num_envs, ...]` what they last returned.
      rng_key: the only stored key of the loop.
      episode_return: `[num_envs]` undiscounted return so far, of the first player.
      episode_length: `[num_envs]` int32, steps so far.
      num_env_steps: environment steps so far, over all environments.
      first_failure: see `FirstFailure`.
    """

    agent: PyTree
    replay: ReplayState
    env_state: EnvState
    timestep: TimeStep
    rng_key: PRNGKey
    episode_return: Array
    episode_length: Array
    num_env_steps: StepCount
    first_failure: FirstFailure
