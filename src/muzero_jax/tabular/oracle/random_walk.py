"""Data without a learner: the steps of a random walk."""

import dataclasses

import jax
import jax.numpy as jnp

from muzero_jax.core.types import Array, PRNGKey, PyTree
from muzero_jax.envs.wrappers import AutoReset
from muzero_jax.tabular.outcomes import Steps
from muzero_jax.tabular.processes.environments import TabularEnvironment


def random_steps(env: TabularEnvironment, rng_key: PRNGKey, *, num_steps: int) -> Steps:
    """`[num_steps]` steps of uniformly drawn actions, over as many episodes as they make.

    Args:
      env: the environment.
      rng_key: consumed.
      num_steps: of the walk.
    """
    walked = AutoReset(dataclasses.replace(env, observation="index"))
    rng_key, reset_key = jax.random.split(rng_key)
    begin, _ = walked.reset(reset_key)

    def step(state: PyTree, rng_key: PRNGKey) -> tuple[PyTree, Steps]:
        action_key, env_key = jax.random.split(rng_key)
        origin: Array = state.env_state
        action = jax.random.randint(action_key, (), 0, env.spec.num_actions)
        state, _ = walked.step(env_key, state, action)
        outcome = state.outcome
        has_ended = outcome.discount == 0.0
        following = jnp.where(has_ended, env.mdp.num_states, outcome.observation)
        return state, Steps(origin, action, outcome.reward[0], following)

    return jax.lax.scan(step, begin, jax.random.split(rng_key, num_steps))[1]
