"""True answers and returns of played steps, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.training.greedy_play import Steps, returns_to_go, true_answers


def steps_of(reward, *, terminated=(), truncated=(), next_value=None, to_play=None):
    """Steps of one player, or of two where `to_play` has one more entry than there are steps."""
    length = len(reward)
    player = np.zeros(length + 1, int) if to_play is None else np.array(to_play)
    number = np.arange(length)
    return jax.tree.map(
        jnp.asarray,
        Steps(
            action=np.zeros(length, np.int32),
            reward=np.array(reward, np.float32).reshape(length, -1),
            discount=np.where(np.isin(number, terminated), 0.0, 1.0).astype(np.float32),
            truncated=np.isin(number, truncated),
            to_play=player[:-1].astype(np.int32),
            next_to_play=player[1:].astype(np.int32),
            next_value=np.array(next_value or [9.0] * length, np.float32),
        ),
    )


def test_after_a_termination_all_is_0_and_known():
    answers = true_answers(steps_of([1.0, 2.0, 3.0], terminated=[1], next_value=[5.0, 6.0, 7.0]))
    np.testing.assert_array_equal(answers.value, [5.0, 0.0, 0.0])
    np.testing.assert_array_equal(answers.reward, [1.0, 2.0, 0.0])
    np.testing.assert_array_equal(answers.known, [True, True, True])


def test_after_a_truncation_nothing_is_known_but_the_final_value():
    answers = true_answers(steps_of([1.0, 2.0, 3.0], truncated=[1], next_value=[5.0, 6.0, 7.0]))
    np.testing.assert_array_equal(answers.value[:2], [5.0, 6.0])
    np.testing.assert_array_equal(answers.known, [True, True, False])


def test_returns_stop_at_terminations_and_bootstrap_at_truncations_and_at_the_end():
    steps = steps_of(
        [1.0, 2.0, 3.0, 4.0, 5.0], terminated=[1], truncated=[3], next_value=[0, 0, 0, 8.0, 16.0]
    )
    returns, weights = returns_to_go(steps, 0.5)
    np.testing.assert_allclose(returns, [2.0, 2.0, 3.0 + 0.5 * 8.0, 4.0 + 4.0, 5.0 + 8.0])
    np.testing.assert_allclose(weights, [0.0, 0.0, 0.0, 0.0, 0.5])
    np.testing.assert_allclose(returns_to_go(steps_of([0.0] * 3), 0.5)[1], [0.125, 0.25, 0.5])


def test_returns_are_those_of_the_player_to_move():
    """The players move in turns, and the value at the end is that of the first."""
    steps = steps_of(
        [[1.0, -1.0], [-2.0, 2.0], [4.0, -4.0], [0.0, 0.0]],
        next_value=[0, 0, 0, 16.0],
        to_play=[0, 1, 0, 1, 0],
    )
    returns, _ = returns_to_go(steps, 0.5)
    first = [1.0 - 1.0 + 1.0 + 16.0 / 16, 4.0 + 16.0 / 4]
    second = [2.0 - 2.0 - 16.0 / 8, -16.0 / 2]
    np.testing.assert_allclose(returns, [first[0], second[0], first[1], second[1]])
