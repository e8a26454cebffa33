"""Wrappers: a new episode after the end of one, time limits, and a batch axis."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.core.checks import require, require_type
from muzero_jax.core.types import Array, PRNGKey, TimeStep
from muzero_jax.envs.base import Environment, EnvironmentSpec, EnvState


class AutoResetState(struct.PyTreeNode):
    """State of an `AutoReset` environment.

    Attributes:
      env_state: the wrapped environment's state; the state of a fresh episode where one ended.
      outcome: the `TimeStep` that the wrapped environment gave. It holds the final observation of
        an episode (before the reset), which the bootstrap after a truncation needs.
    """

    env_state: EnvState
    outcome: TimeStep


@dataclasses.dataclass(frozen=True)
class AutoReset:
    """Starts a new episode as soon as one has ended.

    The returned `TimeStep` mixes two moments. `reward`, `discount` and `truncated` belong to the
    transition just made. `observation`, `legal_action_mask` and `to_play` belong to the state that
    the next action is taken in, which is the start of a new episode where the old one ended. Under
    `vmap` both branches run for every environment, so a step costs a step and a reset.

    Attributes:
      env: the environment to wrap.
    """

    env: Environment

    @property
    def spec(self) -> EnvironmentSpec:
        """The wrapped environment's description."""
        return self.env.spec

    def reset(self, rng_key: PRNGKey) -> tuple[AutoResetState, TimeStep]:
        """Starts the first episode. The `rng_key` is consumed."""
        env_state, timestep = self.env.reset(rng_key)
        return AutoResetState(env_state=env_state, outcome=timestep), timestep

    def step(
        self, rng_key: PRNGKey, state: AutoResetState, action: Array
    ) -> tuple[AutoResetState, TimeStep]:
        """Takes an action, and resets if that ends the episode.

        Args:
          rng_key: consumed.
          state: the state before the step.
          action: `[]` int32.
        """
        step_key, reset_key = jax.random.split(rng_key)
        next_state, outcome = self.env.step(step_key, state.env_state, action)

        def restart() -> tuple[EnvState, TimeStep]:
            fresh_state, fresh = self.env.reset(reset_key)
            return fresh_state, outcome.replace(
                observation=fresh.observation,
                legal_action_mask=fresh.legal_action_mask,
                to_play=fresh.to_play,
            )

        env_state, timestep = jax.lax.cond(outcome.last, restart, lambda: (next_state, outcome))
        return AutoResetState(env_state=env_state, outcome=outcome), timestep


class TimeLimitState(struct.PyTreeNode):
    """State of a `TimeLimit` environment.

    Attributes:
      env_state: the wrapped environment's state.
      num_steps: `[]` int32 number of steps taken in this episode.
    """

    env_state: EnvState
    num_steps: Array


@dataclasses.dataclass(frozen=True)
class TimeLimit:
    """Truncates an episode that has not terminated within `max_steps` steps.

    Attributes:
      env: the environment to wrap; its own time limit should be switched off.
      max_steps: the step at which the episode is truncated, at least 1.
    """

    env: Environment
    max_steps: int

    def __post_init__(self) -> None:
        require_type("a time limit", self.max_steps, int)
        require(self.max_steps >= 1, f"a time limit must be at least 1, found {self.max_steps}.")

    @property
    def spec(self) -> EnvironmentSpec:
        """The wrapped environment's description, with the limit."""
        inner = self.env.spec
        bound = min(self.max_steps, inner.max_episode_steps or self.max_steps)
        return dataclasses.replace(inner, can_truncate=True, max_episode_steps=bound)

    def reset(self, rng_key: PRNGKey) -> tuple[TimeLimitState, TimeStep]:
        """Starts an episode and its clock. The `rng_key` is consumed."""
        env_state, timestep = self.env.reset(rng_key)
        return TimeLimitState(env_state=env_state, num_steps=jnp.zeros((), jnp.int32)), timestep

    def step(
        self, rng_key: PRNGKey, state: TimeLimitState, action: Array
    ) -> tuple[TimeLimitState, TimeStep]:
        """Takes an action; an episode that terminates exactly at the limit is not truncated.

        Args:
          rng_key: consumed.
          state: the state before the step.
          action: `[]` int32.
        """
        env_state, timestep = self.env.step(rng_key, state.env_state, action)
        num_steps = state.num_steps + 1
        time_is_up = (num_steps >= self.max_steps) & (timestep.discount != 0.0)
        timestep = timestep.replace(truncated=timestep.truncated | time_is_up)
        return TimeLimitState(env_state=env_state, num_steps=num_steps), timestep


def without_time_limit(env: Environment) -> Environment:
    """The environment inside its time limits; the environment itself where it has none."""
    while isinstance(env, TimeLimit):
        env = env.env
    return env


@dataclasses.dataclass(frozen=True)
class Vectorised:
    """Runs independent copies side by side; every array gains a leading axis `B`.

    Attributes:
      env: the environment to copy; usually an `AutoReset`.
      num_envs: number of copies `B`, at least 1.
    """

    env: Environment
    num_envs: int

    @property
    def spec(self) -> EnvironmentSpec:
        """The description of one copy."""
        return self.env.spec

    def reset(self, rng_key: PRNGKey) -> tuple[EnvState, TimeStep]:
        """Starts all copies, each from its own part of `rng_key`, which is consumed."""
        return jax.vmap(self.env.reset)(jax.random.split(rng_key, self.num_envs))

    def step(self, rng_key: PRNGKey, state: EnvState, action: Array) -> tuple[EnvState, TimeStep]:
        """Takes an action in each copy.

        Args:
          rng_key: consumed.
          state: the states before the step.
          action: `[B]` int32.
        """
        return jax.vmap(self.env.step)(jax.random.split(rng_key, self.num_envs), state, action)
