"""Data without a learner: the steps of a random walk."""

import jax
import jax.numpy as jnp

from muzero_jax.envs.tabular import TabularEnvironment
from muzero_jax.envs.wrappers import AutoReset
from muzero_jax.maths.outcomes import Steps
from muzero_jax.types import Array, PRNGKey, PyTree


def random_steps(env: TabularEnvironment, rng_key: PRNGKey, *, num_steps: int) -> Steps:
    """`[num_steps]` steps of uniformly drawn actions, over as many episodes as they make.

    Args:
      env: the environment.
      rng_key: consumed.
      num_steps: of the walk.
    """
    walked = AutoReset(env)
    rng_key, reset_key = jax.random.split(rng_key)
    begin, _ = walked.reset(reset_key)

    def step(state: PyTree, rng_key: PRNGKey) -> tuple[PyTree, Steps]:
        action_key, env_key = jax.random.split(rng_key)
        origin: Array = state.env_state
        action = jax.random.randint(action_key, (), 0, env.spec.num_actions)
        state, _ = walked.step(env_key, state, action)
        outcome = state.outcome
        # The number of the state, however the environment shows it.
        seen = outcome.observation
        arrived = seen if seen.ndim == 0 else jnp.argmax(seen)
        following = jnp.where(outcome.discount == 0.0, env.mdp.num_states, arrived)
        return state, Steps(origin, action, outcome.reward[0], following)

    return jax.lax.scan(step, begin, jax.random.split(rng_key, num_steps))[1]
