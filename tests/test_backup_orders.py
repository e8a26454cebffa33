"""Orders of backups, and the data of a random walk."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.envs.registry import make_environment
from muzero_jax.tabular.oracle.backup_orders import begin_plan, count_backups, go_on, random_steps
from muzero_jax.tabular.oracle.dynamic_programming import policy_return, solve
from muzero_jax.tabular.outcomes import count_steps, empty_table, table_of
from muzero_jax.tabular.processes.environments import underlying_tabular
from muzero_jax.tabular.processes.mdp_families import chain_mdp, deep_sea_mdp


def backups(mdp, order, num_tables=3, **options):
    """Until the greedy policy is optimal, for several draws."""
    best = solve(mdp).optimal_return
    tables = jax.tree.map(lambda x: jnp.stack([x] * num_tables), table_of(mdp))

    def is_good(qvalues):
        assert qvalues.shape == (num_tables, mdp.num_states, mdp.num_actions)
        returns = [policy_return(mdp, q.argmax(axis=-1)) for q in qvalues]
        return np.array(returns) >= 0.99 * best

    return count_backups(tables, mdp.discount, order, is_good, **options)


def test_sweeps_against_the_arrows_take_a_pass_and_along_them_one_for_each_state():
    mdp = chain_mdp(4)
    assert (backups(mdp, "backward_sweeps") <= 8).all()
    # Three passes bring the reward to the second cell; the first is the first of the fourth.
    np.testing.assert_array_equal(backups(mdp, "forward_sweeps"), 3 * 8 + 2)


def test_sweeping_by_priority_needs_a_backup_for_each_row():
    np.testing.assert_array_equal(backups(deep_sea_mdp(12, mapping_seed=-1), "prioritised"), 12)


def test_drawn_orders_differ_from_draw_to_draw_and_may_not_be_enough():
    needed = backups(chain_mdp(6), "uniform", num_tables=6)
    assert len(set(needed)) > 1 and np.isfinite(needed).all()
    assert np.isinf(backups(chain_mdp(6), "uniform", most=5)).all()


@pytest.fixture(scope="module")
def walk():
    env = underlying_tabular(make_environment("chain:length=4"))
    steps = jax.jit(functools.partial(random_steps, env, num_steps=600))(jax.random.key(0))
    return env.mdp, steps


def test_a_random_walk_takes_steps_of_the_process(walk):
    mdp, steps = walk
    place = np.asarray(steps.state), np.asarray(steps.action)
    truth = np.where(mdp.terminates, mdp.num_states, mdp.next_state)[..., 0]
    np.testing.assert_array_equal(steps.next_state, truth[place])
    np.testing.assert_allclose(steps.reward, mdp.reward[..., 0][place])
    went_on = np.asarray(steps.next_state)[:-1] < mdp.num_states
    following = np.where(went_on, np.asarray(steps.next_state)[:-1], 0)
    np.testing.assert_array_equal(np.asarray(steps.state)[1:], following)


@pytest.mark.parametrize("num_backups", [1, 50, 400])
def test_a_model_asked_for_the_stored_pairs_is_replay_bit_for_bit(walk, num_backups):
    mdp, steps = walk
    table = count_steps(empty_table(mdp.num_states, mdp.num_actions, 1), steps)
    first = begin_plan(table, 0.9, jax.random.key(4))
    replayed, asked = (
        go_on(table, steps, first, 0.9, num_backups, order)
        for order in ("stored_steps", "stored_pairs")
    )
    np.testing.assert_array_equal(replayed.qvalue, asked.qvalue)
    if num_backups == 400:
        np.testing.assert_allclose(asked.qvalue[3, 1], 1.0)
