"""A task that pays what an agent holds, and agents that hold known numbers after each update.

They tell apart which of an agent's parameters are evaluated, and with which random keys.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import ActOutput, Agent, LearnOutput, Rollouts
from muzero_jax.agents.definition import AgentDefinition
from muzero_jax.core.settings import traced
from muzero_jax.envs.base import Box, EnvironmentSpec, make_timestep


@dataclasses.dataclass(frozen=True)
class Payout:
    """One step, which pays the action and a share of 1 that is drawn where the episode begins."""

    spec = EnvironmentSpec(
        "payout", (1,), "float32", max_episode_steps=1, action_space=Box((1,), 0.0, 1000.0)
    )

    def reset(self, rng_key):
        """Draws the share. The `rng_key` is consumed."""
        return jax.random.uniform(rng_key), make_timestep(jnp.zeros(1), num_actions=0)

    def step(self, rng_key, state, action):
        """Pays; deterministic."""
        del rng_key
        reward = action[0] + state
        return state, make_timestep(jnp.ones(1), num_actions=0, reward=reward, terminated=True)


@dataclasses.dataclass(frozen=True)
class HolderSettings:
    """The settings of an agent that holds numbers."""

    peak: float = traced(4.0)
    """Traced: updates after which the average is the best."""


class HolderState(struct.PyTreeNode):
    """What an agent holds.

    Attributes:
      last: `[1]` what stands for the last parameters.
      average: `[1]` what stands for their average.
      drawn_key: random key, as some agents have one in their states.
    """

    last: jax.Array
    average: jax.Array
    drawn_key: jax.Array
    hyperparameters: dict
    num_updates: jax.Array


def averaged_after(num_updates, peak):
    """The average after so many updates: 1000 at the peak, and 100 less for each update away."""
    return 100.0 * (10.0 - abs(num_updates - peak))


def last_after(num_updates):
    """The last parameters after so many updates."""
    return 100.0 + num_updates


def _make(averages):
    """Makes the function that makes an agent, whose average is evaluated where `averages` holds."""

    def init(rng_key, hyperparameters):
        numbers = jax.tree.map(jnp.float32, dict(hyperparameters))
        zero = jnp.zeros(1)
        return HolderState(zero, zero, rng_key, numbers, jnp.zeros((), jnp.int32))

    def holding(name):
        def act(state, rng_key, moment):
            del rng_key
            held = getattr(state, name)
            return ActOutput(action=jnp.broadcast_to(held, (len(moment.episode_step), 1)))

        return act

    def learn(state, rng_key, rollout):
        del rng_key, rollout
        num_updates, peak = state.num_updates + 1, state.hyperparameters["peak"]
        held = last_after(num_updates), averaged_after(num_updates, peak)
        last, average = (jnp.full(1, x, jnp.float32) for x in held)
        return LearnOutput(state.replace(last=last, average=average, num_updates=num_updates))

    def make(settings, env, sizes):
        del settings, env, sizes
        last = {"last": holding("last")}
        if not averages:
            return Agent(Rollouts(), init, holding("last"), last, learn)
        greedy = {"average": holding("average"), **last}
        unaveraged = {"unaveraged": lambda state: state.replace(average=state.last)}
        return Agent(Rollouts(), init, holding("last"), greedy, learn, **unaveraged)

    return make


AVERAGING = AgentDefinition("averaging", HolderSettings, _make(True), averages=True)
PLAIN = AgentDefinition("plain", HolderSettings, _make(False), averages=True)
