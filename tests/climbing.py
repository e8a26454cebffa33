"""A game of climbing, and models of it that are wrong by known amounts."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from tiny import logits_of, tiny_config

from muzero_jax.agents.muzero.agent import make_muzero
from muzero_jax.config import traced_settings
from muzero_jax.envs.base import EnvironmentSpec, make_timestep
from muzero_jax.networks.model import MuZeroModel


class Place(struct.PyTreeNode):
    """Where a climber is: its height, the steps so far, and a random key that nothing reads."""

    height: jax.Array
    num_steps: jax.Array
    rng_key: jax.Array


@dataclasses.dataclass(frozen=True)
class Climb:
    """Action `a` climbs `a + 1` and pays as much; the observation is `[height, steps]`.

    With two players the height is the lead of the player to move, and what one wins the other one
    loses.
    """

    length: int = 4
    num_players: int = 1

    @property
    def spec(self):
        return EnvironmentSpec(
            "climb", (2,), "float32", 2, self.num_players, max_episode_steps=self.length
        )

    def reset(self, rng_key):
        place = Place(jnp.zeros(()), jnp.zeros((), jnp.int32), rng_key)
        return place, self._timestep(place, jnp.zeros(self.num_players), False, 0)

    def step(self, rng_key, state, action):
        amount = (action + 1).astype(jnp.float32)
        height, mover = state.height + amount, state.num_steps % self.num_players
        reward = amount[None]
        if self.num_players == 2:
            height = -height
            reward = jnp.where(jnp.arange(2) == mover, amount, -amount)
        place = Place(height, state.num_steps + 1, rng_key)
        to_play = place.num_steps % self.num_players
        return place, self._timestep(place, reward, place.num_steps >= self.length, to_play)

    def _timestep(self, place, reward, terminated, to_play):
        observation = jnp.stack([place.height, place.num_steps.astype(jnp.float32)])
        return make_timestep(
            observation, num_actions=2, reward=reward, terminated=terminated, to_play=to_play
        )


def climbing_model(env, *, drift=0.0, overpay=0.0, knows_end=True, slant=0.0) -> MuZeroModel:
    """A model of `env`, whose value of a state is its height times `params["scale"]`.

    Every step of the model climbs `drift` too much and pays `overpay` too much. The prior is
    uniform; with a `slant` it depends on the state.
    """
    sign = 1.0 if env.spec.num_players == 1 else -1.0

    def dynamics(params, embedding, action):
        amount = (action + 1).astype(jnp.float32)
        height, steps = sign * (embedding[:, 0] + amount) + drift, embedding[:, 1] + 1.0
        end = env.spec.max_episode_steps or jnp.inf
        goes_on = jnp.where(steps >= end, 0.0, sign) if knows_end else jnp.full(len(steps), sign)
        reward = logits_of(amount + overpay)
        return jnp.stack([height, steps], axis=1), reward, goes_on

    def predict(params, embedding):
        height, steps = embedding[:, 0], embedding[:, 1]
        preference = slant * jnp.sin(1.7 * height + steps)
        prior_logits = jnp.stack([preference, jnp.zeros_like(height)], axis=1)
        return prior_logits, logits_of(params["scale"] * height)

    return MuZeroModel(
        init=lambda rng_key: {"scale": jnp.ones(())},
        represent=lambda params, observation: observation,
        predict=predict,
        dynamics=dynamics,
    )


def climber(env, *, scale=0.5, discount=0.5, search=None, **wrong):
    """MuZero with such a model, and its state."""
    config = tiny_config(search=search or {}, target={"discount": discount})
    agent = make_muzero(config.learner, env, config.sizes(), climbing_model(env, **wrong))
    state = agent.init(jax.random.key(0), traced_settings(config))
    return agent, state.replace(params={"scale": jnp.float32(scale)})
