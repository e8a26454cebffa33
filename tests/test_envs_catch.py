import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.envs.catch import Catch, CatchState

KEY = jax.random.key(0)


def step(env, state, action):
    return jax.jit(env.step)(KEY, state, jnp.asarray(action, jnp.int32))


def state_of(ball_row, ball_column, paddle_column):
    return CatchState(*(jnp.asarray(x, jnp.int32) for x in (ball_row, ball_column, paddle_column)))


def test_reset_shows_ball_on_top_and_paddle_in_the_middle():
    state, timestep = jax.jit(Catch().reset)(KEY)
    grid = np.asarray(timestep.observation)[..., 0]
    assert grid.shape == (10, 5) and grid.dtype == bool
    assert grid.sum() == 2
    assert grid[0, int(state.ball_column)] and grid[9, 2]


def test_ball_falls_and_paddle_moves_within_the_grid():
    env = Catch(rows=3, columns=3)
    for paddle, action, moved in [(1, 0, 0), (1, 1, 1), (1, 2, 2), (0, 0, 0), (2, 2, 2)]:
        next_state, timestep = step(env, state_of(0, 1, paddle), action)
        expected = np.zeros((3, 3), bool)
        expected[1, 1] = expected[2, moved] = True
        np.testing.assert_array_equal(timestep.observation[..., 0], expected)
        assert int(next_state.paddle_column) == moved
        assert timestep.reward[0] == 0.0 and timestep.discount == 1.0


@pytest.mark.parametrize(("action", "reward"), [(0, -1.0), (1, -1.0), (2, 1.0)])
def test_landing_pays_and_terminates(action, reward):
    # The ball is one row above the floor in column 3, the paddle in column 2.
    _, timestep = step(Catch(), state_of(8, 3, 2), action)
    assert timestep.reward.shape == (1,) and timestep.reward[0] == reward
    assert timestep.discount == 0.0 and not timestep.truncated


def test_an_episode_is_one_step_shorter_than_the_grid_is_high():
    env = Catch(rows=4)
    state, _ = jax.jit(env.reset)(KEY)
    discounts = []
    for _ in range(env.spec.max_episode_steps):
        state, timestep = step(env, state, 1)
        discounts.append(float(timestep.discount))
    assert discounts == [1.0, 1.0, 0.0]


def test_ball_columns_are_uniform():
    env = Catch()
    states, _ = jax.jit(jax.vmap(env.reset))(jax.random.split(KEY, 5000))
    counts = np.bincount(states.ball_column, minlength=5)
    # Expected 1000 each, standard deviation 28: five of them.
    assert np.abs(counts - 1000).max() < 141


def test_too_small_grids_are_refused():
    with pytest.raises(ValueError, match="found 1 x 5"):
        Catch(rows=1)
