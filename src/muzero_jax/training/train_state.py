"""What a run is made of between two chunks."""

from flax import struct

from muzero_jax.envs.base import EnvState
from muzero_jax.replay.buffer import ReplayState
from muzero_jax.types import Array, PRNGKey, PyTree, TimeStep


class FirstFailure(struct.PyTreeNode):
    """The first update whose metrics were not finite; neither it nor any later one is applied.

    Attributes:
      update: `[]` int32, which update, or -1.
      term: `[]` int32, index of the offending metric in `Train.learn_metric_names`.
    """

    update: Array
    term: Array


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
      num_env_steps: `[]` int32, over all environments.
      first_failure: see `FirstFailure`.
    """

    agent: PyTree
    replay: ReplayState
    env_state: EnvState
    timestep: TimeStep
    rng_key: PRNGKey
    episode_return: Array
    episode_length: Array
    num_env_steps: Array
    first_failure: FirstFailure
