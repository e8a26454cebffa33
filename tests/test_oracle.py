"""Exact answers, against numbers known from elsewhere and against each other."""

import dataclasses

import numpy as np
import pytest

from muzero_jax.tabular.oracle.dynamic_programming import (
    action_values,
    policy_return,
    policy_value,
    solve,
)
from muzero_jax.tabular.processes.gridworld import maze_mdp
from muzero_jax.tabular.processes.mdp import InvalidMDPError
from muzero_jax.tabular.processes.mdp_families import chain_mdp, deep_sea_mdp, line_mdp, random_mdp
from muzero_jax.tabular.processes.mdp_transforms import with_slip

MDPS = [
    maze_mdp(),
    with_slip(maze_mdp(), 0.2),
    chain_mdp(distraction=0.05),
    deep_sea_mdp(8, stochastic=True),
    random_mdp(fan_in=2, fan_out=2),
]


@pytest.mark.parametrize(
    ("mdp", "optimal_return"),
    [
        (maze_mdp(), 0.937316820628),
        (maze_mdp(reward_on="entering"), 0.937316820628 / 0.99),
        (line_mdp(), 10.0 - 4.0),
        (line_mdp(7), 10.0 - 6.0),
        (chain_mdp(10), 0.99**9),
        (deep_sea_mdp(10), 0.99),
        (deep_sea_mdp(30, mapping_seed=5), 0.99),
    ],
)
def test_known_optimal_returns(mdp, optimal_return):
    assert solve(mdp).optimal_return == pytest.approx(optimal_return, abs=1e-12)


def test_a_uniform_policy_of_the_maze():
    """The number of the references, by another program."""
    uniform = np.full((36, 4), 0.25)
    assert policy_return(maze_mdp(), uniform) == pytest.approx(-0.0617, abs=5e-5)


@pytest.mark.parametrize("mdp", MDPS, ids=lambda mdp: mdp.name)
def test_the_optimum_solves_its_equation_and_no_policy_beats_it(mdp):
    solution = solve(mdp)
    best = action_values(mdp, solution.value).max(axis=-1)
    np.testing.assert_allclose(best, solution.value, atol=1e-10)
    rng = np.random.default_rng(0)
    for _ in range(5):
        policy = rng.dirichlet(np.ones(mdp.num_actions), size=mdp.num_states)
        assert (policy_value(mdp, policy) <= solution.value + 1e-10).all()
    for picked in (np.argmax, lambda mask, axis: mask.shape[axis] - 1 - mask[:, ::-1].argmax(axis)):
        policy = picked(solution.optimal_actions, axis=1)
        np.testing.assert_allclose(policy_value(mdp, policy), solution.value, atol=1e-9)


@pytest.mark.parametrize("mdp", MDPS, ids=lambda mdp: mdp.name)
def test_an_exact_evaluation_equals_repeated_backups(mdp):
    policy = np.random.default_rng(1).dirichlet(np.ones(mdp.num_actions), size=mdp.num_states)
    value = np.zeros(mdp.num_states)
    for _ in range(4_000):
        value = (policy * action_values(mdp, value)).sum(axis=-1)
    np.testing.assert_allclose(policy_value(mdp, policy), value, atol=1e-10)


def test_without_discount_a_policy_may_walk_for_ever_for_nothing():
    mdp = dataclasses.replace(maze_mdp(), discount=1.0)
    west = np.full(36, 1)
    value = policy_value(mdp, west)
    assert value[28] == 1.0 and value[0] == 0.0
    assert solve(mdp).optimal_return == pytest.approx(1.0)


def test_what_never_settles_is_refused():
    with pytest.raises(InvalidMDPError, match="episodes never end from state 0"):
        policy_value(line_mdp(), np.full(5, 1))
    circle = dataclasses.replace(chain_mdp(distraction=1.0), discount=1.0)
    with pytest.raises(InvalidMDPError, match="grows without end"):
        solve(circle)


def test_a_policy_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"of shape \(5,\) or \(5, 2\), found \(4,\)"):
        policy_value(line_mdp(), np.zeros(4, int))


def test_a_policy_cut_off_after_enough_steps_is_worth_the_same():
    mdp = with_slip(maze_mdp(), 0.2)
    policy = solve(mdp).optimal_actions.argmax(axis=1)
    cut = policy_value(mdp, policy, num_steps=3_000)
    np.testing.assert_allclose(cut, policy_value(mdp, policy), atol=1e-10)
    east = policy_value(line_mdp(), np.zeros(5, int), num_steps=3)
    np.testing.assert_array_equal(east, [-3.0, -3.0, 8.0, 9.0, 10.0])


def test_a_discount_close_to_one_takes_no_million_sweeps():
    mdp = dataclasses.replace(chain_mdp(3, distraction=1.0), discount=0.99999)
    assert solve(mdp).value[0] == pytest.approx(1.0 / 1e-5, rel=1e-6)
