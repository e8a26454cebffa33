"""What the loop asks of a learner, whichever it is."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from flax import struct

from muzero_jax.core.types import Array, Metrics, PRNGKey, PyTree, TimeStep, Transition
from muzero_jax.replay.buffer import WindowSpec
from muzero_jax.replay.settings import ReplayConfig
from muzero_jax.search.policies import SearchOutput

Hyperparameters: TypeAlias = Mapping[str, Array | float]
"""Traced settings by their dotted name, for example `optimizer.learning_rate`."""

LARGEST_SUFFIX = "_largest"
"""Ends the name of a metric of learning whose largest value over a chunk and over the shards is
reported; of every other metric the mean is reported."""


class Moment(struct.PyTreeNode):
    """What acting may look at, for a batch of environments.

    Attributes:
      timestep: `[B, ...]` what the environments returned last.
      memory: `[B, ...]` the agent's own notes, made anew where an episode begins. In evaluations of
        two players the agent takes notes in its own turns only.
      episode_step: `[B]` int32, steps that the episode has had.
      env_state: `[B, ...]` states of the environment that the agent was made with, inside
        auto-reset; None where the environments do not run in JAX.
    """

    timestep: TimeStep
    memory: PyTree
    episode_step: Array
    env_state: PyTree


class ActOutput(struct.PyTreeNode):
    """What acting gives for a batch of environments.

    Attributes:
      action: `[B]` int32.
      memory: `[B, ...]` the agent's notes for the next step.
      record: `[B, ...]` what is stored with the transition.
      priority: `[B]` the first replay priority of the windows that start here; 1 where None.
      value: `[B]` the learned values of the observations; None where the agent learns no values.
      metrics: scalars, by name; the mean over the steps of a chunk is reported.
    """

    action: Array
    memory: PyTree = ()
    record: PyTree = ()
    priority: Array | None = None
    value: Array | None = None
    metrics: Metrics = struct.field(default_factory=dict)


class LearnOutput(struct.PyTreeNode):
    """What one update gives.

    Attributes:
      state: the agent's next state.
      metrics: scalars, by name; one that is not finite stops the run. An agent averages them over
        the shards, except those whose names end in `LARGEST_SUFFIX`, which the loop maximises.
      priorities: `[B]` the new replay priorities of the batch; None keeps the old ones.
    """

    state: PyTree
    metrics: Metrics = struct.field(default_factory=dict)
    priorities: Array | None = None


class Rollout(struct.PyTreeNode):
    """The steps of one iteration.

    Attributes:
      transitions: `[T, B, ...]` in the order in which they happened.
      priority: `[T, B]` the replay priorities of the windows that start at the steps.
      timestep: `[B, ...]` what the environments returned last, after any reset, for a bootstrap.
    """

    transitions: Transition
    priority: Array
    timestep: TimeStep


@dataclasses.dataclass(frozen=True)
class Windows:
    """The agent learns from windows of consecutive steps that are drawn from a replay.

    Attributes:
      spec: which part of the stored steps the agent reads.
      replay: the settings of the ring, which the agent's settings have as `replay`.
    """

    spec: WindowSpec
    replay: ReplayConfig


@dataclasses.dataclass(frozen=True)
class Rollouts:
    """The agent learns once from each rollout, which is not kept."""


class Unrolled(struct.PyTreeNode):
    """What a learned model predicts along given actions, in rewards of the environment.

    After a step with which, by the model, the episode ends, its rewards and values are 0.

    Attributes:
      value: `[K + 1, B]` values of the states for the player to move there; the first is that of
        the encoded observation.
      reward: `[K, B]` rewards of the steps for the player who moves.
    """

    value: Array
    reward: Array


@dataclasses.dataclass(frozen=True)
class NetworkWork:
    """The network passes of an agent and nothing else, which a profile compares its loop with.

    Attributes:
      num_simulations: simulations of one search.
      num_searches: states that are searched in one update.
      act: `(state, rng_key, num_envs) -> []`, the passes of acting once in a batch of environments,
        reduced to a number that depends on each.
      learn: `(state, rng_key) -> state`, the passes of one update, forward and backward.
      optimise: `state -> state`, one step of the optimiser.
    """

    num_simulations: int
    num_searches: int
    act: Callable[[PyTree, PRNGKey, int], Array]
    learn: Callable[[PyTree, PRNGKey], PyTree]
    optimise: Callable[[PyTree], PyTree]


ActFn: TypeAlias = Callable[[PyTree, PRNGKey, Moment], ActOutput]


@dataclasses.dataclass(frozen=True)
class Agent:
    """A learner as pure functions; no state is hidden in it.

    Attributes:
      data: what `learn` is given: `Windows` of a replay, or whole `Rollouts`.
      init: `(rng_key, hyperparameters) -> state`, a pytree with at least the fields
        `hyperparameters` and `num_updates` (`[]` int32). The `rng_key` is consumed.
      act: `(state, rng_key, moment [B, ...]) -> ActOutput`, exploring. The `rng_key` is consumed.
      greedy: ways of acting without exploring, by name, each like `act`; the first is evaluated as
        the score of record.
      learn: `(state, rng_key, data) -> LearnOutput`, where the data are a `Batch` of windows or a
        `Rollout`. The `rng_key` is consumed.
      init_memory: `num_envs -> memory [B, ...]`, the agent's notes where an episode begins.
      observe: `(state, rollout) -> state`, called with every rollout before anything is learned
        from it; None for an agent that need not see each transition once.
      plan: `(state, rng_key, moment) -> SearchOutput`, the search of the first greedy way of
        acting; None for an agent that does not search.
      unroll: `(state, observation [B, ...], actions [K, B]) -> Unrolled`, the predictions of the
        learned model along given actions, which a diagnosis compares with the environment; None for
        an agent without a model.
      network_work: what a profile compares the agent's chunk with; None where it is not described.
      unaveraged: `state -> state`, pure: the state whose last parameters are evaluated in the place
        of their average; None for an agent that is evaluated with its last parameters anyway.
    """

    data: Windows | Rollouts
    init: Callable[[PRNGKey, Hyperparameters], PyTree]
    act: ActFn
    greedy: Mapping[str, ActFn]
    learn: Callable[[PyTree, PRNGKey, Any], LearnOutput]
    init_memory: Callable[[int], PyTree] = lambda num_envs: ()
    observe: Callable[[PyTree, Rollout], PyTree] | None = None
    plan: Callable[[PyTree, PRNGKey, Moment], SearchOutput] | None = None
    unroll: Callable[[PyTree, Array, Array], Unrolled] | None = None
    network_work: NetworkWork | None = None
    unaveraged: Callable[[PyTree], PyTree] | None = None

    @property
    def act_greedily(self) -> ActFn:
        """The way of acting that is evaluated as the score of record."""
        return next(iter(self.greedy.values()))
