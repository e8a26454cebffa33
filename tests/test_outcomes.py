"""Counted outcomes and backups over them, against arithmetic by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.tabular.outcomes import (
    Steps,
    backup_all,
    backup_pair,
    count_steps,
    draw_outcome,
    empty_table,
    follow,
    leads_to,
)


def counted(num_outcomes, *steps):
    """A table of two states and two actions after (state, action, reward, next state, ended)."""
    table = empty_table(2, 2, num_outcomes)
    columns = [jnp.array(column) for column in zip(*steps, strict=True)]
    state, action, reward, next_state, ended = columns
    return count_steps(table, Steps(state, action, reward, jnp.where(ended, 2, next_state)))


STEPS = [(0, 1, 1.0, 1, False), (0, 1, 3.0, 1, False), (0, 1, 5.0, 0, True), (1, 0, 2.0, 0, False)]


def test_outcomes_are_counted_with_their_mean_reward():
    table = counted(2, *STEPS)
    np.testing.assert_array_equal(table.visits, [[0, 3], [1, 0]])
    np.testing.assert_array_equal(table.next_state[0, 1], [1, 2])
    np.testing.assert_array_equal(table.count[0, 1], [2, 1])
    np.testing.assert_array_equal(table.reward[0, 1], [2.0, 5.0])


def test_with_room_for_one_the_last_outcome_stays():
    table = counted(1, *STEPS)
    assert (table.next_state[0, 1, 0], table.count[0, 1, 0], table.reward[0, 1, 0]) == (2, 1, 5.0)


def test_the_rarest_outcome_gives_way():
    table = counted(2, *STEPS, (0, 1, 7.0, 0, False))
    np.testing.assert_array_equal(table.next_state[0, 1], [1, 0])
    np.testing.assert_array_equal(table.reward[0, 1], [2.0, 7.0])


def test_backups_are_means_over_the_counts():
    table = counted(2, *STEPS)
    qvalue = jnp.array([[1.0, 2.0], [10.0, 4.0], [0.0, 0.0]])
    expected = (2 * (2.0 + 0.5 * 10.0) + 5.0) / 3
    assert backup_pair(table, qvalue, 0.5, jnp.int32(0), jnp.int32(1)) == pytest.approx(expected)
    np.testing.assert_allclose(backup_all(table, qvalue, 0.5), [[0, expected], [3.0, 0]], rtol=1e-6)


def test_predecessors():
    table = counted(2, *STEPS)
    np.testing.assert_array_equal(leads_to(table, jnp.int32(1)), [[False, True], [False, False]])
    np.testing.assert_array_equal(leads_to(table, jnp.int32(0)), [[False, False], [True, False]])


def test_outcomes_are_drawn_as_often_as_they_were_seen():
    table = counted(3, *STEPS)
    keys = jax.random.split(jax.random.key(0), 3_000)
    reward, next_state = jax.vmap(draw_outcome, in_axes=(None, 0, None, None))(table, keys, 0, 1)
    assert float((next_state == 1).mean()) == pytest.approx(2 / 3, abs=0.03)
    np.testing.assert_array_equal(np.asarray(reward), np.where(next_state == 1, 2.0, 5.0))


def test_following_steps_by_hand():
    steps = Steps(*map(jnp.array, ([0, 1, 0], [1, 0, 1], [1.0, 4.0, 1.0], [1, 2, 1])))
    qvalue, error = follow(jnp.zeros((3, 2)), steps, 0.5, 0.5)
    np.testing.assert_allclose(error, [1.0, 4.0, 1.0 + 0.5 * 2.0 - 0.5])
    np.testing.assert_allclose(qvalue, [[0, 0.5 + 0.75], [2.0, 0], [0, 0]])
    left_out, _ = follow(jnp.zeros((3, 2)), steps, 0.5, 0.5, jnp.array([True, False, False]))
    np.testing.assert_allclose(left_out, [[0, 0.5], [0, 0], [0, 0]])
