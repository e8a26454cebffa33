import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.envs.tic_tac_toe import TicTacToe

KEY = jax.random.key(0)
ENV = TicTacToe()
STEP = jax.jit(ENV.step)


def play(*actions):
    state, timestep = jax.jit(ENV.reset)(KEY)
    timesteps = [timestep]
    for action in actions:
        state, timestep = STEP(KEY, state, jnp.asarray(action, jnp.int32))
        timesteps.append(timestep)
    return timesteps


def test_reset_is_an_empty_board_with_player_0_to_move():
    (first,) = play()
    assert not first.observation.any() and first.legal_action_mask.all()
    assert first.to_play == 0
    np.testing.assert_array_equal(first.reward, [0.0, 0.0])


def test_observation_is_seen_by_the_player_to_move():
    *_, one, two = play(4, 0)
    # After player 0's move in the centre, player 1 sees it as the other's.
    assert one.to_play == 1
    assert not one.observation[..., 0].any()
    assert one.observation[1, 1, 1] and one.observation[..., 1].sum() == 1
    # After player 1's move in the corner, player 0 sees its own centre and the other's corner.
    assert two.to_play == 0
    assert two.observation[1, 1, 0] and two.observation[0, 0, 1]
    np.testing.assert_array_equal(
        two.legal_action_mask, np.array([0, 1, 1, 1, 0, 1, 1, 1, 1], bool)
    )


def test_first_player_wins_a_row():
    *before, last = play(0, 3, 1, 4, 2)
    np.testing.assert_array_equal(last.reward, [1.0, -1.0])
    assert last.discount == 0.0
    assert all(t.discount == 1.0 and not t.reward.any() for t in before)


def test_second_player_wins_a_diagonal():
    last = play(0, 2, 1, 4, 8, 6)[-1]
    np.testing.assert_array_equal(last.reward, [-1.0, 1.0])
    assert last.discount == 0.0


def test_a_full_board_is_a_draw():
    # 0 1 0 / 0 1 1 / 1 0 0
    *before, last = play(0, 1, 2, 4, 3, 5, 7, 6, 8)
    np.testing.assert_array_equal(last.reward, [0.0, 0.0])
    assert last.discount == 0.0 and all(t.discount == 1.0 for t in before)


@pytest.mark.parametrize(("actions", "reward"), [((4, 4), [1.0, -1.0]), ((4, 0, 0), [-1.0, 1.0])])
def test_who_claims_a_taken_cell_loses(actions, reward):
    last = play(*actions)[-1]
    np.testing.assert_array_equal(last.reward, reward)
    assert last.discount == 0.0


def test_every_action_is_legal_at_a_terminal_state():
    assert play(0, 3, 1, 4, 2)[-1].legal_action_mask.all()


def test_wins_are_exactly_the_eight_lines():
    grid = np.arange(9).reshape(3, 3)
    lines = {*map(tuple, grid), *map(tuple, grid.T), (0, 4, 8), (2, 4, 6)}
    triples = np.array(list(itertools.combinations(range(9), 3)))
    state, _ = jax.jit(ENV.reset)(KEY)

    def claims_third(triple):
        stones = state.stones.at[0, triple[:2]].set(True)
        _, timestep = ENV.step(KEY, state.replace(stones=stones), triple[2])
        return timestep.reward[0]

    rewards = jax.jit(jax.vmap(claims_third))(jnp.asarray(triples))
    won = {tuple(map(int, triple)) for triple in triples[np.asarray(rewards) == 1.0]}
    assert won == {tuple(map(int, line)) for line in lines}
