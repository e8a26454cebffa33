"""What a learner is before it is built: its name, its settings, and what builds it. No JAX."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from muzero_jax.core.user_code import load_reference


def unchanged(tree: Any) -> Any:
    """The pytree itself, which is the average over a single shard."""
    return tree


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes of a run that an agent may need when it is built.

    Attributes:
      num_envs: environments that act in one batch; of one shard where there are several.
      rollout_length: steps of each environment between two phases of learning.
      num_updates: upper bound of the updates of the whole run, where schedules end.
      average: averages a pytree of gradients and metrics over the shards of a run; for agents whose
        definition says that they call it.
    """

    num_envs: int = 1
    rollout_length: int = 1
    num_updates: int = 1
    average: Callable[[Any], Any] = unchanged


@dataclasses.dataclass(frozen=True)
class ChunkSizes:
    """How much work one compiled chunk of a run is.

    Attributes:
      num_envs: environments that act in one batch.
      rollout_length: steps of each environment in an iteration.
      iterations: iterations of a chunk.
      updates_per_iteration: updates of an iteration.
    """

    num_envs: int
    rollout_length: int
    iterations: int
    updates_per_iteration: int

    @property
    def num_updates(self) -> int:
        """Updates of a chunk."""
        return self.iterations * self.updates_per_iteration


class NetworkWork(Protocol):
    """The network passes of a chunk without everything else that the chunk does.

    Attributes:
      num_simulations: simulations of one search.
      num_searches: searches of a chunk.
    """

    num_simulations: int

    @property
    def num_searches(self) -> int:
        """Searches of a chunk."""
        ...

    def acting(self, agent_state: Any, rng_key: Any) -> Any:
        """The passes of acting."""
        ...

    def learning(self, agent_state: Any, rng_key: Any) -> Any:
        """The passes of learning, forward and backward."""
        ...

    def optimiser(self, agent_state: Any) -> Any:
        """The optimiser's steps."""
        ...


@dataclasses.dataclass(frozen=True)
class AgentDefinition:
    """A learner as the registry, or a user's own module, offers it.

    Attributes:
      name: the agent's name, for messages.
      settings: a frozen dataclass of the agent's own settings, whose defaults make a working agent.
        A field is a number, a text, a boolean, a `Literal`, a tuple of these, or a section (a
        frozen dataclass of such fields); `core.settings.traced` marks a number that the members of
        a sweep may differ in without another compilation. An agent with a replay has the field
        `replay: ReplayConfig`. A property `window_length` says how many consecutive steps a
        replayed window has; without it, 1.
      make: `(settings, env, sizes) -> Agent`, or its name as `module:function`, which is imported
        when an agent is built.
      averages: whether the agent averages its gradients with `sizes.average`, so that a run can be
        spread over several shards.
      network_work: `(settings, env, chunk_sizes) -> NetworkWork`, or its name as `module:function`:
        what a profile of the loop compares the agent's chunk with; None for an agent that does not
        describe it, whose chunk is split into environment, acting and learning alone.
    """

    name: str
    settings: type
    make: Callable[[Any, Any, Sizes], Any] | str
    averages: bool = False
    network_work: Callable[[Any, Any, ChunkSizes], NetworkWork] | str | None = None

    def build(self, settings: Any, env: Any, sizes: Sizes) -> Any:
        """Builds the agent.

        Args:
          settings: an instance of `self.settings`.
          env: one environment, neither batched nor auto-resetting.
          sizes: the sizes of the run.

        Returns:
          An `agents.base.Agent`.

        Raises:
          ConfigError: the agent does not suit the environment.
        """
        return _loaded(self.make)(settings, env, sizes)

    def describe_work(self, settings: Any, env: Any, sizes: ChunkSizes) -> NetworkWork | None:
        """The bare network work of a chunk; None for an agent that does not describe it.

        Args:
          settings: an instance of `self.settings`.
          env: one environment, neither batched nor auto-resetting.
          sizes: how much work a chunk is.
        """
        if self.network_work is None:
            return None
        work: NetworkWork = _loaded(self.network_work)(settings, env, sizes)
        return work


def _loaded(function: Callable[..., Any] | str) -> Callable[..., Any]:
    """A function, or what is named `module:function`."""
    if not isinstance(function, str):
        return function
    loaded: Callable[..., Any] = load_reference(function)
    return loaded
