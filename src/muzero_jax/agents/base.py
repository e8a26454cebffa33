"""What the loop asks of a learner, whichever it is."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from flax import struct

from muzero_jax.core.types import Array, Metrics, PRNGKey, PyTree, TimeStep, Transition
from muzero_jax.replay.buffer import Batch, WindowSpec

Hyperparameters: TypeAlias = Mapping[str, Array | float]
"""Traced settings by their dotted name, for example `optimizer.learning_rate`."""

LARGEST_SUFFIX = "_largest"
"""Ends the name of a metric of learning whose largest value over a chunk and over the shards is
reported; of every other metric the mean is reported."""


class AgentState(Protocol):
    """A pytree with at least these fields."""

    hyperparameters: Hyperparameters
    num_updates: Array


class ActOutput(struct.PyTreeNode):
    """What acting gives for a batch of environments.

    Attributes:
      action: `[B]` int32.
      record: `[B, ...]` what is stored with the transition.
      priority: `[B]` the replay priority of the windows that start here, until they are learned.
      value: `[B]` what the agent has learned that the observations are worth.
      metrics: scalars, by name.
    """

    action: Array
    record: PyTree
    priority: Array
    value: Array
    metrics: Metrics


class LearnOutput(struct.PyTreeNode):
    """What one update gives.

    Attributes:
      state: the agent's next state.
      metrics: scalars, by name; one that is not finite stops the run. An agent averages them over
        the shards, except those whose names end in `LARGEST_SUFFIX`, which the loop maximises.
      priorities: `[B]` the new replay priorities of the batch.
    """

    state: PyTree
    metrics: Metrics
    priorities: Array


@dataclasses.dataclass(frozen=True)
class Agent:
    """A learner as pure functions; no state is hidden in it.

    Attributes:
      window: what `learn` needs to read around each replayed step.
      init: `(rng_key, hyperparameters) -> state`. The `rng_key` is consumed.
      act: `(state, rng_key, timestep [B, ...], explore) -> ActOutput`; `explore` is a Python bool,
        False for greedy evaluation. The `rng_key` is consumed.
      learn: `(state, rng_key, batch) -> LearnOutput`. The `rng_key` is consumed.
      observe: `(state, transitions [T, num_envs, ...]) -> state`, called with every rollout before
        it is replayed, by agents that must see each transition once; None for those that need not.
    """

    window: WindowSpec
    init: Callable[[PRNGKey, Hyperparameters], PyTree]
    act: Callable[[PyTree, PRNGKey, TimeStep, bool], ActOutput]
    learn: Callable[[PyTree, PRNGKey, Batch], LearnOutput]
    observe: Callable[[PyTree, Transition], PyTree] | None = None
