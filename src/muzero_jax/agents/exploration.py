"""Exploration that every agent can do: now and then an action at random, for a step or more."""

import dataclasses

import jax
import jax.numpy as jnp

from muzero_jax.agents.base import Hyperparameters, Moment
from muzero_jax.core.types import Array, PRNGKey, PyTree
from muzero_jax.envs.base import random_legal_action
from muzero_jax.maths.skipping import skip_unless


@dataclasses.dataclass(frozen=True)
class RandomActions:
    """Replaces actions by random legal ones, in bursts of up to `longest` steps.

    A burst is longer than k steps, for any k below `longest`, with probability 1 / (k + 1): most
    random actions are alone, and some bursts lead far from what the agent would have seen
    (durations as of temporally extended epsilon-greedy, Dabney et al. 2021, arXiv 2006.01782,
    section 4, but every action of a burst is drawn anew).

    Attributes:
      longest: the most steps of a burst; with 1 nothing is remembered.
    """

    longest: int = 1

    def init_memory(self, num_envs: int) -> PyTree:
        """`[num_envs]` int32 steps left of a burst where episodes begin; `()` without bursts."""
        return () if self.longest == 1 else jnp.zeros(num_envs, jnp.int32)

    def act(
        self, rng_key: PRNGKey, action: Array, moment: Moment, hyperparameters: Hyperparameters
    ) -> tuple[Array, PyTree]:
        """Replaces some of `[B]` actions.

        Args:
          rng_key: consumed.
          action: `[B]` int32.
          moment: what acting looks at.
          hyperparameters: `exploration.epsilon`, the probability with which a burst begins, and
            `exploration.epsilon_exponent`, its ladder over the environments.

        Returns:
          The actions, and the memory for the next step.
        """
        legal = moment.timestep.legal_action_mask
        epsilon, exponent = (
            jnp.asarray(hyperparameters[f"exploration.{name}"])
            for name in ("epsilon", "epsilon_exponent")
        )
        epsilon = epsilon_ladder(epsilon, exponent, len(action))
        if self.longest == 1:
            return sometimes_random(rng_key, action, legal, epsilon), moment.memory
        action_key, begin_key, steps_key = jax.random.split(rng_key, 3)
        uniform = jax.random.uniform(steps_key, action.shape, minval=1e-6)
        steps = jnp.clip(jnp.floor(1.0 / uniform), 1, self.longest).astype(jnp.int32)
        begins = jax.random.uniform(begin_key, action.shape) < epsilon
        left = jnp.maximum(moment.memory, jnp.where(begins, steps, 0))
        goes_on = (left > 0).astype(jnp.float32)
        taken = sometimes_random(action_key, action, legal, goes_on)
        return taken, jnp.maximum(left - 1, 0)


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
