"""Probe environments: each needs one mechanism of a learner, so a failure says which one is broken.

The idea is A. L. Jones's (https://andyljones.com/posts/rl-debugging.html, "probe environments").
The order is that of `PROBES`: a learner that fails at one also fails at the next ones.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.core.types import Array, PRNGKey, TimeStep
from muzero_jax.envs.base import EnvironmentSpec, make_timestep


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
    """An episode of one or two steps that pays at its end; every other reward is 0.

    The observation is the vector `[cue, num_steps]`, float32.

    Attributes:
      name: the name in the registry.
      pays_cue: whether the cue is drawn, +1 or -1 with equal probability, and multiplies the
        reward; it is always +1 otherwise.
      pays_action: whether there are two actions, of which 1 pays +1 and 0 pays -1, times the cue.
      num_steps: length of every episode.
    """

    name: str
    pays_cue: bool = False
    pays_action: bool = False
    num_steps: int = 1

    @property
    def spec(self) -> EnvironmentSpec:
        """The static description."""
        num_actions = 2 if self.pays_action else 1
        return EnvironmentSpec(
            self.name, (2,), "float32", num_actions, max_episode_steps=self.num_steps
        )

    def reset(self, rng_key: PRNGKey) -> tuple[ProbeState, TimeStep]:
        """Draws the cue. The `rng_key` is consumed."""
        drawn = jax.random.rademacher(rng_key, (), jnp.float32)
        cue = drawn if self.pays_cue else jnp.ones((), jnp.float32)
        state = ProbeState(cue=cue, num_steps=jnp.zeros((), jnp.int32))
        return state, self._timestep(state, 0.0, False)

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
        sign = jnp.where(action == 1, 1.0, -1.0) if self.pays_action else 1.0
        reward = jnp.where(terminated, state.cue * sign, 0.0)
        return next_state, self._timestep(next_state, reward, terminated)

    def _timestep(
        self, state: ProbeState, reward: Array | float, terminated: Array | bool
    ) -> TimeStep:
        observation = jnp.stack([state.cue, state.num_steps.astype(jnp.float32)])
        num_actions = self.spec.num_actions
        return make_timestep(
            observation, num_actions=num_actions, reward=reward, terminated=terminated
        )


def constant_reward() -> Probe:
    """One step, which pays 1: needs the value head and its loss."""
    return Probe("probe_constant_reward")


def observation_reward() -> Probe:
    """One step, which pays the cue: needs the value as a function of the observation."""
    return Probe("probe_observation_reward", pays_cue=True)


def delayed_reward() -> Probe:
    """Two steps, which pay 0 and 1: need the bootstrap and the discount."""
    return Probe("probe_delayed_reward", num_steps=2)


def action_reward() -> Probe:
    """One step, in which action 1 pays +1 and 0 pays -1: needs the policy, or the argmax of Q."""
    return Probe("probe_action_reward", pays_action=True)


def action_and_observation_reward() -> Probe:
    """The same, times the cue: needs the policy as a function of the observation."""
    return Probe("probe_action_and_observation_reward", pays_cue=True, pays_action=True)


PROBES = (
    *(constant_reward, observation_reward, delayed_reward),
    *(action_reward, action_and_observation_reward),
)
