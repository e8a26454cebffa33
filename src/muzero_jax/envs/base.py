"""The environment protocol: pure functions over an explicit state, and its static description."""

import dataclasses
from typing import ClassVar, Protocol, TypeAlias

import jax
import jax.numpy as jnp

from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import Array, PRNGKey, PyTree, TimeStep

EnvState: TypeAlias = PyTree


@dataclasses.dataclass(frozen=True)
class Discrete:
    """Actions that are numbers from 0.

    Attributes:
      num_actions: how many there are, `A`.
      shape: the shape of one action.
    """

    num_actions: int
    shape: ClassVar[tuple[int, ...]] = ()


@dataclasses.dataclass(frozen=True)
class Box:
    """Actions that are arrays of float32 between two bounds.

    Attributes:
      shape: the shape of one action.
      low: the lowest value of every entry.
      high: the highest value of every entry.
    """

    shape: tuple[int, ...]
    low: float = -1.0
    high: float = 1.0


@dataclasses.dataclass(frozen=True)
class EnvironmentSpec:
    """What is known of an environment before it runs.

    Attributes:
      name: the registry name, for messages and run folders.
      observation_shape: shape of one observation; rank 1 is a vector, rank 3 a grid `[H, W, C]`,
        and () is the number of a state.
      observation_dtype: NumPy name of the dtype in which observations are stored.
      num_actions: number of discrete actions `A`; 0 where actions are no numbers, and so no action
        has an entry in `TimeStep.legal_action_mask`.
      num_players: 1, or 2 for a zero-sum game whose players alternate.
      can_truncate: whether a time limit can end an episode.
      max_episode_steps: an upper bound on the length of an episode, where one is known.
      action_space: what actions are; `Discrete(num_actions)` where None is given.

    Raises (when constructed):
      ConfigError: `num_actions` and `action_space` differ.
    """

    name: str
    observation_shape: tuple[int, ...]
    observation_dtype: str
    num_actions: int = 0
    num_players: int = 1
    can_truncate: bool = False
    max_episode_steps: int | None = None
    action_space: Discrete | Box | None = None

    def __post_init__(self) -> None:
        if self.action_space is None:
            object.__setattr__(self, "action_space", Discrete(self.num_actions))
        elif isinstance(self.action_space, Discrete):
            found = self.action_space.num_actions
            if self.num_actions not in (0, found):
                raise ConfigError(
                    f"{self.name}: num_actions ({self.num_actions}) and action_space ({found} "
                    "actions) differ; give one of them."
                )
            object.__setattr__(self, "num_actions", found)


def require_discrete(spec: EnvironmentSpec, agent: str) -> None:
    """Refuses an environment whose actions are not numbers.

    Args:
      spec: the description of the environment.
      agent: the name of the agent, for the message.

    Raises:
      ConfigError: the actions are a box.
    """
    if not isinstance(spec.action_space, Discrete):
        raise ConfigError(
            f"the agent {agent} takes discrete actions, but the actions of {spec.name} are a box "
            f"of the shape {spec.action_space.shape if spec.action_space else ()}."
        )


class Environment(Protocol):
    """An environment: static `spec` and two pure functions, neither batched nor auto-resetting."""

    @property
    def spec(self) -> EnvironmentSpec:
        """The static description."""
        ...

    def reset(self, rng_key: PRNGKey) -> tuple[EnvState, TimeStep]:
        """Starts an episode. The `rng_key` is consumed; the reward is 0 and the discount 1."""
        ...

    def step(self, rng_key: PRNGKey, state: EnvState, action: Array) -> tuple[EnvState, TimeStep]:
        """Takes one step.

        Args:
          rng_key: consumed.
          state: the state from the last step, or from `reset`.
          action: `[*action_shape]`, int32 where actions are discrete.

        What a step from a state whose episode has ended does is undefined; wrap the environment in
        `AutoReset` to go on.
        """
        ...


def make_timestep(
    observation: Array,
    *,
    num_actions: int,
    reward: Array | float = 0.0,
    terminated: Array | bool = False,
    truncated: Array | bool = False,
    legal_action_mask: Array | None = None,
    to_play: Array | int = 0,
) -> TimeStep:
    """Builds a `TimeStep` with the protocol's dtypes from loosely typed parts.

    Args:
      observation: `[*observation_shape]`.
      num_actions: `A`, for the mask when none is given.
      reward: `[]` for one player or `[P]`, one entry a player.
      terminated: `[]`, the episode truly ended.
      truncated: `[]`, a time limit ended it; ignored where `terminated`.
      legal_action_mask: `[A]`, all actions are legal when None.
      to_play: `[]`, the player to move next.
    """
    terminated = jnp.asarray(terminated, bool)
    if legal_action_mask is None:
        legal_action_mask = jnp.ones(num_actions, bool)
    return TimeStep(
        observation=observation,
        reward=jnp.atleast_1d(jnp.asarray(reward, jnp.float32)),
        discount=jnp.where(terminated, 0.0, 1.0).astype(jnp.float32),
        truncated=jnp.asarray(truncated, bool) & ~terminated,
        legal_action_mask=legal_action_mask,
        to_play=jnp.asarray(to_play, jnp.int32),
    )


def random_action(rng_key: PRNGKey, spec: EnvironmentSpec, legal_action_mask: Array) -> Array:
    """Uniformly random actions, `[..., *action_shape]`: legal numbers, or points of a box.

    Args:
      rng_key: consumed.
      spec: the description of the environment.
      legal_action_mask: `[..., A]` bool, as in `TimeStep`.
    """
    space = spec.action_space
    if isinstance(space, Box):
        shape = (*legal_action_mask.shape[:-1], *space.shape)
        return jax.random.uniform(rng_key, shape, minval=space.low, maxval=space.high)
    return random_legal_action(rng_key, legal_action_mask)


def random_legal_action(rng_key: PRNGKey, legal_action_mask: Array) -> Array:
    """Returns uniformly random legal actions, `[...]` int32.

    Args:
      rng_key: consumed.
      legal_action_mask: `[..., A]` bool; True is legal, at least one in each row.
    """
    logits = jnp.where(legal_action_mask, 0.0, -jnp.inf)
    return jax.random.categorical(rng_key, logits).astype(jnp.int32)
