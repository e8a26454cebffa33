"""Containers that every room shares, and the legend of the shapes in docstrings.

Shape legend: ``B`` batch of environments or of replay windows, ``T`` time, ``K`` model unroll
steps, ``A`` actions, ``P`` players, ``E`` embedding. A docstring that gives no batch axis
describes one unbatched item; `jax.vmap` at the edge adds the batch.
"""

from typing import Any, TypeAlias

import jax
from flax import struct

Array: TypeAlias = jax.Array
PRNGKey: TypeAlias = jax.Array
PyTree: TypeAlias = Any
Params: TypeAlias = PyTree
Metrics: TypeAlias = dict[str, Array]


class TimeStep(struct.PyTreeNode):
    """What an environment returns for one step.

    Termination and truncation are different things. `discount` is 0 only where the episode truly
    ended; `truncated` marks a time limit, where the value of the final observation is bootstrapped.
    At most one of the two holds.

    Attributes:
      observation: `[*observation_shape]` what the player to move sees.
      reward: `[P]` float32, the reward of each player for the transition that led here.
      discount: `[]` float32, 0 where the episode terminated, 1 elsewhere.
      truncated: `[]` bool, a time limit ended the episode here.
      legal_action_mask: `[A]` bool, True where the action may be taken from here.
      to_play: `[]` int32, the index of the player who moves next.
    """

    observation: Array
    reward: Array
    discount: Array
    truncated: Array
    legal_action_mask: Array
    to_play: Array

    @property
    def last(self) -> Array:
        """`[]` bool, the episode ended here, by termination or by truncation."""
        return (self.discount == 0.0) | self.truncated


class Transition(struct.PyTreeNode):
    """One stored step: the state acted in, the action, and what came of it.

    Attributes:
      observation: `[*observation_shape]` the observation that was acted upon.
      legal_action_mask: `[A]` bool, the actions that were legal there.
      to_play: `[]` int32, the player who moved.
      action: `[]` int32, the action taken.
      reward: `[]` float32, the reward of the player who moved.
      discount: `[]` float32, 0 where the action terminated the episode, 1 elsewhere.
      truncated: `[]` bool, a time limit ended the episode after the action.
      final_observation: `[*observation_shape]` the observation after the action and before any
        auto-reset; None where no time limit can end an episode.
      record: arrays that the agent stores with the step, for example its search policy.
    """

    observation: Array
    legal_action_mask: Array
    to_play: Array
    action: Array
    reward: Array
    discount: Array
    truncated: Array
    final_observation: Array | None
    record: PyTree
