"""Probe environments: each needs one mechanism of a learner, so a failure says which one is broken.

The idea is A. L. Jones's (https://andyljones.com/posts/rl-debugging.html, "probe environments").
Run them in order: a learner that fails at one also fails at the next ones.

| name | what it needs | optimal value |
|---|---|---|
| `probe_constant_reward` | the value head and its loss | 1 |
| `probe_observation_reward` | the value as a function of the observation | the cue, +1 or -1 |
| `probe_delayed_reward` | the bootstrap and the discount | `discount` at first, then 1 |
| `probe_action_reward` | the policy, or the argmax of Q | 1; action 1 pays +1, action 0 pays -1 |
| `probe_action_and_observation_reward` | the policy as a function of the observation | 1 |
"""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.core.types import Array, PRNGKey, TimeStep
from muzero_jax.envs.base import EnvironmentSpec, make_timestep

PayFn: TypeAlias = Callable[[Array, Array], Array]
"""Function of the cue (`[]`, +1 or -1) and the action (`[]`, 0 or 1), which returns the reward."""


class ProbeState(struct.PyTreeNode):
    """State of a `Probe`.

    Attributes:
      cue: `[]` float32, +1 or -1; the observation shows it.
      num_steps: `[]` int32 number of steps taken in this episode.
    """

    cue: Array
    num_steps: Array


@dataclasses.dataclass(frozen=True)
class Probe:
    """An episode of one or two steps that pays at its end.

    The observation is the vector `[cue, num_steps]`, float32. The last step pays
    `pay(cue, action)` and terminates the episode; every other reward is 0.

    Attributes:
      name: the name in the registry.
      pay: function that gives the reward of the last step.
      num_actions: number of actions, 1 or 2.
      random_cue: whether the cue is drawn, +1 or -1 with equal probability, or always +1.
      num_steps: length of every episode.
    """

    name: str
    pay: PayFn
    num_actions: int = 1
    random_cue: bool = False
    num_steps: int = 1

    @property
    def spec(self) -> EnvironmentSpec:
        """The static description."""
        return EnvironmentSpec(
            name=self.name,
            observation_shape=(2,),
            observation_dtype="float32",
            num_actions=self.num_actions,
            max_episode_steps=self.num_steps,
        )

    def reset(self, rng_key: PRNGKey) -> tuple[ProbeState, TimeStep]:
        """Draws the cue. The `rng_key` is consumed."""
        drawn = jax.random.rademacher(rng_key, (), jnp.float32)
        cue = drawn if self.random_cue else jnp.ones((), jnp.float32)
        state = ProbeState(cue=cue, num_steps=jnp.zeros((), jnp.int32))
        return state, make_timestep(_observe(state), num_actions=self.num_actions)

    def step(
        self, rng_key: PRNGKey, state: ProbeState, action: Array
    ) -> tuple[ProbeState, TimeStep]:
        """Takes an action; deterministic.

        Args:
          rng_key: not read.
          state: the state before the step.
          action: `[]` int32.
        """
        del rng_key
        next_state = state.replace(num_steps=state.num_steps + 1)
        terminated = next_state.num_steps >= self.num_steps
        return next_state, make_timestep(
            _observe(next_state),
            num_actions=self.num_actions,
            reward=jnp.where(terminated, self.pay(state.cue, action), 0.0),
            terminated=terminated,
        )


def _observe(state: ProbeState) -> Array:
    """Returns `[2]` float32."""
    return jnp.stack([state.cue, state.num_steps.astype(jnp.float32)])


def _pay_one(cue: Array, _: Array) -> Array:
    return jnp.ones_like(cue)


def _pay_cue(cue: Array, _: Array) -> Array:
    return cue


def _pay_action(cue: Array, action: Array) -> Array:
    return jnp.where(action == 1, 1.0, -1.0).astype(cue.dtype)


def _pay_match(cue: Array, action: Array) -> Array:
    return cue * _pay_action(cue, action)


def constant_reward() -> Probe:
    """One action, one step, reward 1."""
    return Probe("probe_constant_reward", _pay_one)


def observation_reward() -> Probe:
    """One action, one step; the reward is the cue that the observation shows."""
    return Probe("probe_observation_reward", _pay_cue, random_cue=True)


def delayed_reward() -> Probe:
    """One action, two steps; reward 0, then 1."""
    return Probe("probe_delayed_reward", _pay_one, num_steps=2)


def action_reward() -> Probe:
    """Two actions, one step; action 1 pays +1 and action 0 pays -1, whatever is observed."""
    return Probe("probe_action_reward", _pay_action, num_actions=2)


def action_and_observation_reward() -> Probe:
    """Two actions, one step; +1 for action 1 at cue +1 and action 0 at cue -1, otherwise -1."""
    return Probe("probe_action_and_observation_reward", _pay_match, num_actions=2, random_cue=True)
