import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.core.errors import ConfigError
from muzero_jax.envs.base import EnvironmentSpec, make_timestep
from muzero_jax.envs.catch import Catch
from muzero_jax.envs.wrappers import AutoReset, TimeLimit, Vectorised

KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Countdown:
    """Counts 0, 1, 2, ...; pays the count and terminates at `length`, with `to_play` for a mark."""

    length: int

    @property
    def spec(self):
        return EnvironmentSpec("countdown", (1,), "float32", 2, max_episode_steps=self.length)

    def reset(self, rng_key):
        del rng_key
        return jnp.zeros((), jnp.int32), self._timestep(jnp.zeros((), jnp.int32), 0.0)

    def step(self, rng_key, state, action):
        del rng_key, action
        return state + 1, self._timestep(state + 1, (state + 1).astype(jnp.float32))

    def _timestep(self, count, reward):
        return make_timestep(
            count.astype(jnp.float32)[None],
            num_actions=2,
            reward=reward,
            terminated=count == self.length,
            legal_action_mask=jnp.array([True, False]) | (count > 0),
        )


def play(env, num_steps, rng_key=KEY):
    """Returns the first time step, and states and time steps stacked over `num_steps`."""

    def body(state, step_key):
        state, timestep = env.step(step_key, state, jnp.zeros((), jnp.int32))
        return state, (state, timestep)

    @jax.jit
    def run(rng_key):
        reset_key, step_key = jax.random.split(rng_key)
        state, first = env.reset(reset_key)
        return first, *jax.lax.scan(body, state, jax.random.split(step_key, num_steps))[1]

    return run(rng_key)


def test_auto_reset_mixes_the_transition_made_with_the_state_to_act_from():
    first, states, timesteps = play(AutoReset(Countdown(3)), 4)
    assert first.discount == 1.0
    np.testing.assert_array_equal(timesteps.reward[:, 0], [1, 2, 3, 1])
    np.testing.assert_array_equal(timesteps.discount, [1, 1, 0, 1])
    np.testing.assert_array_equal(timesteps.observation[:, 0], [1, 2, 0, 1])
    np.testing.assert_array_equal(timesteps.legal_action_mask[:, 1], [True, True, False, True])
    np.testing.assert_array_equal(states.outcome.observation[:, 0], [1, 2, 3, 1])
    np.testing.assert_array_equal(states.outcome.legal_action_mask[:, 1], [True] * 4)
    np.testing.assert_array_equal(states.env_state, [1, 2, 0, 1])


def test_auto_reset_takes_a_new_key_for_each_episode():
    _, states, _ = play(AutoReset(Catch(rows=2, columns=5)), 64)
    # Every episode is one step, so every state is fresh; 64 draws of 5 columns show all of them.
    assert set(np.asarray(states.env_state.ball_column)) == set(range(5))


def test_time_limit_truncates_at_the_limit_and_keeps_the_discount():
    _, _, timesteps = play(TimeLimit(Countdown(9), 3), 3)
    np.testing.assert_array_equal(timesteps.truncated, [False, False, True])
    np.testing.assert_array_equal(timesteps.discount, [1, 1, 1])
    np.testing.assert_array_equal(timesteps.last, [False, False, True])


def test_termination_at_the_limit_is_no_truncation():
    _, _, timesteps = play(TimeLimit(Countdown(3), 3), 3)
    np.testing.assert_array_equal(timesteps.truncated, [False, False, False])
    np.testing.assert_array_equal(timesteps.discount, [1, 1, 0])


def test_time_limit_starts_anew_in_each_episode_and_the_final_observation_is_kept():
    _, states, timesteps = play(AutoReset(TimeLimit(Countdown(9), 2)), 5)
    np.testing.assert_array_equal(timesteps.truncated, [False, True, False, True, False])
    np.testing.assert_array_equal(timesteps.observation[:, 0], [1, 0, 1, 0, 1])
    np.testing.assert_array_equal(states.outcome.observation[:, 0], [1, 2, 1, 2, 1])


@pytest.mark.parametrize(("length", "limit", "bound"), [(9, 3, 3), (3, 9, 3)])
def test_time_limit_spec(length, limit, bound):
    spec = TimeLimit(Countdown(length), limit).spec
    assert spec.can_truncate
    assert spec.max_episode_steps == bound


def test_vectorised_equals_single_environments():
    env = Catch()
    copies = Vectorised(env, 8)
    actions = jnp.arange(8) % 3
    state, first = jax.jit(copies.reset)(KEY)
    next_state, second = jax.jit(copies.step)(KEY, state, actions)
    assert len(np.unique(state.ball_column)) > 1
    assert first.observation.shape == (8, 10, 5, 1)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    for row, row_key in enumerate(jax.random.split(KEY, 8)):
        single_state, single_first = reset(row_key)
        _, single_second = step(row_key, single_state, actions[row])
        np.testing.assert_array_equal(first.observation[row], single_first.observation)
        np.testing.assert_array_equal(second.observation[row], single_second.observation)
    assert next_state.ball_row.shape == (8,)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (0, "a time limit must be at least 1, found 0"),
        (2.5, "a time limit must be an integer, found 2.5"),
    ],
)
def test_a_time_limit_refuses_nonsense(limit, message):
    with pytest.raises(ConfigError, match=message):
        TimeLimit(Catch(), limit)


def test_wrappers_pass_the_spec_on():
    assert AutoReset(Catch()).spec == Vectorised(Catch(), 2).spec == Catch().spec
