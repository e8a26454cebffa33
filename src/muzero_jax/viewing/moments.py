"""The moments of one environment alone, as an agent acts in them for somebody who watches."""

import jax
import jax.numpy as jnp

from muzero_jax.agents.base import Agent, Moment
from muzero_jax.core.types import TimeStep
from muzero_jax.envs.base import EnvState


def first_moment(agent: Agent, env_state: EnvState, timestep: TimeStep) -> Moment:
    """The first moment of an episode, without an axis for the batch.

    Args:
      agent: the agent, which may take notes.
      env_state: the state of the environment after its reset.
      timestep: what the environment returned then.
    """
    memory = jax.tree.map(lambda x: x[0], agent.init_memory(1))
    return Moment(timestep, memory, jnp.zeros((), jnp.int32), env_state)


def batch_of_one(moment: Moment) -> Moment:
    """A moment of one environment as a batch `[1, ...]`."""
    batch: Moment = jax.tree.map(lambda x: x[None], moment)
    return batch
