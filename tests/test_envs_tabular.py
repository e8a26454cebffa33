"""Tabular environments against the arrays they are made from."""

import jax
import numpy as np
import pytest

from muzero_jax.envs.registry import make_environment
from muzero_jax.tabular.processes.environments import TabularEnvironment, underlying_tabular

NAMES = [
    "maze:slip=0.2",
    "line",
    "chain",
    "deep_sea:size=4:stochastic=true",
    "random_mdp:fan_out=2",
]


@pytest.mark.parametrize("name", NAMES)
def test_steps_have_the_frequencies_of_the_arrays(name):
    env = underlying_tabular(make_environment(name, observation="index"))
    assert env is not None
    mdp, num_draws = env.mdp, 4_000
    state = int(np.argmax((~mdp.terminates & (mdp.probability > 0)).all(axis=(1, 2))))
    keys = jax.random.split(jax.random.key(0), num_draws)
    for action in range(mdp.num_actions):
        _, timestep = jax.vmap(env.step, in_axes=(0, None, None))(keys, state, action)
        going_on = np.asarray(timestep.discount) == 1.0
        seen = np.bincount(np.asarray(timestep.observation)[going_on], minlength=mdp.num_states)
        expected = mdp.transition[state, action]
        np.testing.assert_allclose(seen / num_draws, expected, atol=0.03)
        assert set(np.flatnonzero(seen)) <= set(np.flatnonzero(expected))
        reward = np.asarray(timestep.reward).mean()
        assert reward == pytest.approx(mdp.expected_reward[state, action], abs=0.03)


def test_first_states_have_the_frequencies_of_the_start():
    env = underlying_tabular(make_environment("maze"))
    assert env is not None
    states, _ = jax.vmap(env.reset)(jax.random.split(jax.random.key(1), 4_000))
    seen = np.bincount(np.asarray(states), minlength=36) / 4_000
    np.testing.assert_allclose(seen, env.mdp.start, atol=0.02)
    assert (seen[env.mdp.start == 0] == 0).all()


def test_both_observations_show_the_state():
    one_hot, index = make_environment("line"), make_environment("line:observation=index")
    assert one_hot.spec.observation_shape == (5,) and index.spec.observation_shape == ()
    key = jax.random.key(0)
    state, first = one_hot.reset(key)
    _, timestep = one_hot.step(key, state, 0)
    _, by_index = index.step(key, index.reset(key)[0], 0)
    assert first.observation.argmax() == 0
    assert timestep.observation.argmax() == by_index.observation == 1


def test_time_limits_are_of_the_family_unless_given():
    assert make_environment("maze").spec.max_episode_steps == 50
    assert make_environment("maze:time_limit=7").spec.max_episode_steps == 7
    assert isinstance(make_environment("maze:time_limit=0"), TabularEnvironment)
    assert underlying_tabular(make_environment("catch")) is None
