"""Counted outcomes and backups by hand; planning over tables, against the exact answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.tabular.oracle.backup_orders import begin_plan, go_on
from muzero_jax.tabular.oracle.dynamic_programming import policy_return, solve
from muzero_jax.tabular.outcomes import (
    Steps,
    backup,
    count_steps,
    draw_outcome,
    empty_table,
    follow,
    sweep_most_urgent,
    sweep_to_convergence,
    table_of,
)
from muzero_jax.tabular.processes.gridworld import maze_mdp
from muzero_jax.tabular.processes.mdp_families import chain_mdp, deep_sea_mdp, random_mdp
from muzero_jax.tabular.processes.mdp_transforms import with_slip


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
    pair = jnp.int32(0), jnp.int32(1)
    assert backup(table, qvalue, 0.5, pair) == pytest.approx(expected)
    np.testing.assert_allclose(backup(table, qvalue, 0.5), [[0, expected], [3.0, 0]], rtol=1e-6)


def test_a_backup_lets_the_predecessors_of_its_state_wait():
    table = counted(2, *STEPS)
    priority = jnp.array([[0.0, 0.0], [9.0, 0.0]])
    qvalue, priority = sweep_most_urgent(table, (jnp.zeros((3, 2)), priority), 0.5)
    np.testing.assert_allclose(qvalue, [[0, 0], [2.0, 0], [0, 0]])
    # Two thirds of the steps led from state 0 to state 1, whose value was 0 before.
    np.testing.assert_allclose(priority, [[0, (2 * (2.0 + 0.5 * 2.0) + 5.0) / 3], [0, 0]])


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


MDPS = [with_slip(maze_mdp(), 0.2), chain_mdp(distraction=0.1), random_mdp(fan_in=2, fan_out=2)]


def nothing_known(mdp):
    return jnp.zeros((mdp.num_states + 1, mdp.num_actions))


@pytest.mark.parametrize("mdp", MDPS, ids=lambda mdp: mdp.name)
def test_value_iteration_finds_the_exact_values(mdp):
    everything = jnp.ones((mdp.num_states, mdp.num_actions), bool)
    qvalue = sweep_to_convergence(table_of(mdp), nothing_known(mdp), mdp.discount, everything)
    np.testing.assert_allclose(qvalue[:-1], solve(mdp).qvalues, atol=2e-4)
    assert not qvalue[-1].any()


def test_what_is_not_known_keeps_its_value():
    mdp = chain_mdp(4)
    is_known = jnp.ones((4, 2), bool).at[3, 1].set(False)
    start = nothing_known(mdp).at[3, 1].set(7.0)
    qvalue = sweep_to_convergence(table_of(mdp), start, 0.5, is_known)
    np.testing.assert_allclose(qvalue[:4, 1], [7 / 8, 7 / 4, 7 / 2, 7.0])


def sweep(mdp, num_backups):
    """Values and priorities after prioritised sweeping."""
    table = table_of(mdp)
    begin = begin_plan(table, mdp.discount, jax.random.key(0))
    state = go_on(table, None, begin, mdp.discount, num_backups, "prioritised")
    return state.qvalue, state.priority


@pytest.mark.parametrize("mdp", MDPS, ids=lambda mdp: mdp.name)
def test_prioritised_sweeping_finds_the_exact_values(mdp):
    qvalue, priority = sweep(mdp, 20_000)
    np.testing.assert_allclose(qvalue[:-1], solve(mdp).qvalues, atol=2e-4)
    assert not priority.any(), "no pair waits any more"


@pytest.mark.parametrize("size", [10, 40])
def test_the_deep_sea_is_swept_with_a_backup_for_each_row(size):
    # Action 1 always goes right, so that a tie, which goes to action 0, is of no help.
    mdp = deep_sea_mdp(size, mapping_seed=-1)
    one_less, enough = (
        policy_return(mdp, np.argmax(sweep(mdp, num)[0][:-1], axis=1)) for num in (size - 1, size)
    )
    assert enough == pytest.approx(0.99) and one_less < 0.9
