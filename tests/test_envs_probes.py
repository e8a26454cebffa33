import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.envs.registry import make_environment

KEY = jax.random.key(0)


def rewards_of(name, action, num_envs=64):
    """Returns cues `[B]`, rewards `[B, T]` and discounts `[B, T]` of playing `action`."""
    env = make_environment(name)

    def play(rng_key):
        state, first = env.reset(rng_key)
        timesteps = []
        for _ in range(env.spec.max_episode_steps):
            state, timestep = env.step(rng_key, state, jnp.asarray(action, jnp.int32))
            timesteps.append(timestep)
        rewards = jnp.stack([t.reward[0] for t in timesteps])
        return first.observation[0], rewards, jnp.stack([t.discount for t in timesteps])

    return jax.jit(jax.vmap(play))(jax.random.split(KEY, num_envs))


def test_constant_reward():
    cues, rewards, discounts = rewards_of("probe_constant_reward", 0)
    np.testing.assert_array_equal(cues, np.ones(64))
    np.testing.assert_array_equal(rewards, np.ones((64, 1)))
    np.testing.assert_array_equal(discounts, np.zeros((64, 1)))


def test_observation_reward():
    cues, rewards, discounts = rewards_of("probe_observation_reward", 0)
    assert set(np.asarray(cues)) == {-1.0, 1.0}
    np.testing.assert_array_equal(rewards[:, 0], cues)
    np.testing.assert_array_equal(discounts, np.zeros((64, 1)))


def test_delayed_reward():
    _, rewards, discounts = rewards_of("probe_delayed_reward", 0)
    np.testing.assert_array_equal(rewards, np.tile([0.0, 1.0], (64, 1)))
    np.testing.assert_array_equal(discounts, np.tile([1.0, 0.0], (64, 1)))


def test_delayed_reward_shows_the_time():
    env = make_environment("probe_delayed_reward")
    state, first = jax.jit(env.reset)(KEY)
    _, second = jax.jit(env.step)(KEY, state, jnp.zeros((), jnp.int32))
    np.testing.assert_array_equal(first.observation, [1.0, 0.0])
    np.testing.assert_array_equal(second.observation, [1.0, 1.0])


@pytest.mark.parametrize(("action", "reward"), [(0, -1.0), (1, 1.0)])
def test_action_reward(action, reward):
    cues, rewards, _ = rewards_of("probe_action_reward", action)
    np.testing.assert_array_equal(cues, np.ones(64))
    np.testing.assert_array_equal(rewards, np.full((64, 1), reward))


@pytest.mark.parametrize(("action", "sign"), [(0, -1.0), (1, 1.0)])
def test_action_and_observation_reward(action, sign):
    cues, rewards, _ = rewards_of("probe_action_and_observation_reward", action)
    assert set(np.asarray(cues)) == {-1.0, 1.0}
    np.testing.assert_array_equal(rewards[:, 0], sign * np.asarray(cues))


@pytest.mark.parametrize(
    ("name", "num_actions", "length"),
    [
        ("probe_constant_reward", 1, 1),
        ("probe_observation_reward", 1, 1),
        ("probe_delayed_reward", 1, 2),
        ("probe_action_reward", 2, 1),
        ("probe_action_and_observation_reward", 2, 1),
    ],
)
def test_specs(name, num_actions, length):
    spec = make_environment(name).spec
    assert (spec.name, spec.num_actions, spec.max_episode_steps) == (name, num_actions, length)
    assert spec.observation_shape == (2,)
