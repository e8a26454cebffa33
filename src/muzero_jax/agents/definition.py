"""What a learner is before it is built: its name, its settings, and what builds it. No JAX."""

import dataclasses
from collections.abc import Callable
from typing import Any

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
    """

    name: str
    settings: type
    make: Callable[[Any, Any, Sizes], Any] | str
    averages: bool = False

    def build(self, settings: Any, env: Any, sizes: Sizes) -> Any:
        """Builds the agent, an `agents.base.Agent`.

        Args:
          settings: an instance of `self.settings`.
          env: one environment, neither batched nor auto-resetting.
          sizes: the sizes of the run.

        Raises:
          ConfigError: the agent does not suit the environment.
        """
        make = load_reference(self.make) if isinstance(self.make, str) else self.make
        return make(settings, env, sizes)
