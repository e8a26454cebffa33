import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.core.errors import ConfigError
from muzero_jax.envs.pgx_adapter import PGX_NAMES, make_pgx
from muzero_jax.envs.suites import import_suite
from muzero_jax.envs.tic_tac_toe import TicTacToe

KEY = jax.random.key(0)


def play(env, actions):
    """Returns the time steps of one game."""
    step = jax.jit(env.step)
    state, timestep = jax.jit(env.reset)(KEY)
    timesteps = [timestep]
    for action in actions:
        state, timestep = step(KEY, state, jnp.asarray(action, jnp.int32))
        timesteps.append(timestep)
    return jax.device_get(timesteps)


def test_the_known_names_are_pgx_games_for_one_or_two_who_alternate():
    pgx = import_suite("pgx")
    others = {"sparrow_mahjong", "backgammon", "leduc_holdem"}
    assert set(PGX_NAMES) == set(pgx.available_envs()) - others


@pytest.mark.parametrize(
    "actions",
    [
        (0, 3, 1, 4, 2),  # The first player wins a row.
        (0, 2, 1, 4, 8, 6),  # The second player wins a diagonal.
        (0, 1, 2, 4, 3, 5, 7, 6, 8),  # A draw.
        (4, 4),  # The second player claims a taken cell.
    ],
)
def test_tic_tac_toe_equals_ours(actions):
    """Two implementations of one game agree; pgx draws which player moves first."""
    theirs, ours = play(make_pgx("tic_tac_toe"), actions), play(TicTacToe(), actions)
    first_player = int(theirs[0].to_play)
    for their_step, our_step in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(np.roll(their_step.reward, -first_player), our_step.reward)
        assert their_step.discount == our_step.discount
        np.testing.assert_array_equal(their_step.legal_action_mask, our_step.legal_action_mask)
        if our_step.discount:
            assert (their_step.to_play + first_player) % 2 == our_step.to_play
            np.testing.assert_array_equal(their_step.observation, our_step.observation)


def test_connect_four_pays_each_player():
    # Both drop into their own column; the one who began has four first.
    *before, last = play(make_pgx("connect_four"), [0, 1, 0, 1, 0, 1, 0])
    first_player = int(before[0].to_play)
    assert last.discount == 0.0 and not last.truncated
    assert last.reward[first_player] == 1.0 and last.reward[1 - first_player] == -1.0
    assert [int(t.to_play) for t in before[:3]] == [first_player, 1 - first_player, first_player]


def test_a_full_column_is_illegal():
    timesteps = play(make_pgx("connect_four"), [0] * 6)
    np.testing.assert_array_equal(timesteps[5].legal_action_mask, np.ones(7, bool))
    np.testing.assert_array_equal(timesteps[6].legal_action_mask, np.arange(7) != 0)


def test_chance_needs_the_step_key():
    env = make_pgx("2048")
    state, first = jax.jit(env.reset)(KEY)
    action = jnp.argmax(first.legal_action_mask).astype(jnp.int32)
    step = jax.jit(jax.vmap(env.step, in_axes=(0, None, None)))
    _, timesteps = step(jax.random.split(KEY, 16), state, action)
    assert len(np.unique(np.asarray(timesteps.observation).reshape(16, -1), axis=0)) > 1
    assert timesteps.reward.shape == (16, 1)


def test_minatar_has_a_time_limit():
    assert make_pgx("minatar-breakout").spec.max_episode_steps == 1000
    assert make_pgx("minatar-breakout").spec.can_truncate
    assert make_pgx("minatar-freeway", max_steps=10).spec.max_episode_steps == 10
    assert not make_pgx("connect_four").spec.can_truncate


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sparrow_mahjong", "has 3 players"),
        ("backgammon", "move twice in a row; players must alternate"),
        ("leduc_holdem", "move twice in a row; players must alternate"),
        ("ludo", "no game 'ludo'"),
    ],
)
def test_errors(name, message):
    with pytest.raises(ConfigError, match=message):
        make_pgx(name)
