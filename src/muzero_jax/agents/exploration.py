"""Exploration that every agent can do: now and then an action at random, for a step or more."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import Moment
from muzero_jax.core.types import Array, PRNGKey, PyTree
from muzero_jax.envs.base import random_legal_action
from muzero_jax.maths.skipping import skip_unless


class RepeatedAction(struct.PyTreeNode):
    """The random action that an environment is in the middle of.

    Attributes:
      action: `[B]` int32.
      steps_left: `[B]` int32, steps for which it will be taken again.
    """

    action: Array
    steps_left: Array


@dataclasses.dataclass(frozen=True)
class RandomActions:
    """Replaces actions by random legal ones, which are repeated for up to `longest` steps.

    The number of steps n exceeds any k below `longest` with probability 1 / (k + 1): most random
    actions are short, and some cross a whole plateau (temporally extended epsilon-greedy, Dabney et
    al. 2021, arXiv 2006.01782, section 4).

    Attributes:
      longest: the most steps; with 1 nothing is remembered.
    """

    longest: int

    def init_memory(self, num_envs: int) -> PyTree:
        """What the agent remembers where episodes begin."""
        if self.longest == 1:
            return ()
        nothing = jnp.zeros(num_envs, jnp.int32)
        return RepeatedAction(nothing, nothing)

    def act(
        self, rng_key: PRNGKey, action: Array, moment: Moment, epsilon: Array
    ) -> tuple[Array, PyTree]:
        """Replaces some of `[B]` actions.

        Args:
          rng_key: consumed.
          action: `[B]` int32.
          moment: what acting looks at.
          epsilon: `[B]` probabilities in [0, 1] with which a random action begins.

        Returns:
          The actions, and the memory for the next step.
        """
        legal = moment.timestep.legal_action_mask
        if self.longest == 1:
            return sometimes_random(rng_key, action, legal, epsilon), moment.memory
        action_key, steps_key = jax.random.split(rng_key)
        begun = sometimes_random(action_key, jnp.full_like(action, -1), legal, epsilon)
        uniform = jax.random.uniform(steps_key, action.shape, minval=1.0 / self.longest)
        steps = jnp.clip(jnp.floor(1.0 / uniform).astype(jnp.int32), 1, self.longest)
        before: RepeatedAction = moment.memory
        is_legal = jnp.take_along_axis(legal, before.action[:, None], axis=1)[:, 0]
        goes_on = (before.steps_left > 0) & is_legal
        begins = (begun >= 0) & ~goes_on
        left = jnp.where(goes_on, before.steps_left - 1, jnp.where(begins, steps - 1, 0))
        taken = jnp.where(goes_on, before.action, jnp.where(begins, begun, action))
        return taken, RepeatedAction(taken, left)


def epsilon_ladder(epsilon: Array, exponent: Array, num_envs: int) -> Array:
    """`[num_envs]` probabilities of random actions, `epsilon ** (1 + exponent * i / (N - 1))`.

    Args:
      epsilon: `[]` the largest, that of the first environment.
      exponent: `[]` alpha; 0 gives every environment the same (Horgan et al. 2018, arXiv
        1803.00933, section 4.1).
      num_envs: number of environments N.
    """
    place = jnp.arange(num_envs) / max(num_envs - 1, 1)
    return jnp.power(epsilon, 1.0 + exponent * place)


def sometimes_random(
    rng_key: PRNGKey, action: Array, legal_action_mask: Array, epsilon: Array | float
) -> Array:
    """Replaces each of `[B]` actions by a uniformly drawn legal one with probability `epsilon`.

    Args:
      rng_key: consumed.
      action: `[B]` int32.
      legal_action_mask: `[B, A]` bool.
      epsilon: `[B]` or `[]` in [0, 1].
    """
    epsilon = jnp.asarray(epsilon)

    def explore(rng_key: PRNGKey, action: Array, legal: Array, epsilon: Array) -> Array:
        choice_key, random_key = jax.random.split(rng_key)
        random_action = random_legal_action(random_key, legal).astype(action.dtype)
        is_random = jax.random.uniform(choice_key, action.shape) < epsilon
        return jnp.where(is_random, random_action, action)

    inputs = (rng_key, action, legal_action_mask, epsilon)
    changed: Array = skip_unless((epsilon > 0).any(), explore, action, *inputs)
    return changed
