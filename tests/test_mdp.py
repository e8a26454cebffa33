"""Finite processes as arrays: their checks, and what is derived from them."""

import dataclasses

import numpy as np
import pytest

from muzero_jax.core.errors import ConfigError
from muzero_jax.tabular.processes.gridworld import FOUR_ROOMS, maze_mdp
from muzero_jax.tabular.processes.mdp import TabularMDP
from muzero_jax.tabular.processes.mdp_families import chain_mdp, deep_sea_mdp, line_mdp, random_mdp
from muzero_jax.tabular.processes.mdp_transforms import mdp_from_table, with_slip

FAMILIES = [
    maze_mdp(),
    maze_mdp(reward_on="entering"),
    line_mdp(),
    chain_mdp(),
    deep_sea_mdp(6),
    deep_sea_mdp(6, stochastic=True),
    random_mdp(fan_in=2, fan_out=2),
]


@pytest.mark.parametrize("mdp", FAMILIES, ids=lambda mdp: mdp.name)
def test_a_table_and_back_is_the_same_process(mdp):
    """Probabilities of going on and expected rewards survive the way over `[S, A, S]`."""
    slippery = with_slip(mdp, 0.3)
    drawn = mdp.transition.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(slippery.transition, 0.7 * mdp.transition + 0.3 * drawn, atol=1e-12)
    np.testing.assert_allclose(
        slippery.expected_reward,
        0.7 * mdp.expected_reward + 0.3 * mdp.expected_reward.mean(axis=1, keepdims=True),
        atol=1e-12,
    )
    np.testing.assert_allclose(slippery.probability.sum(axis=-1), 1.0)


def test_a_process_from_a_table():
    transition = np.array([[[0.25, 0.75], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    mdp = mdp_from_table(
        transition, [[1.0, 2.0], [3.0, 4.0]], [1, 0], 0.9, termination=[False, True]
    )
    assert mdp.num_outcomes == 2
    expected = transition * np.array([1.0, 0.0])
    np.testing.assert_array_equal(mdp.transition, expected)
    np.testing.assert_array_equal(mdp.expected_reward, [[1.0, 2.0], [3.0, 4.0]])


def change(field, place, value):
    """A line of five cells with one number changed."""

    def changed() -> TabularMDP:
        mdp = line_mdp()
        array = getattr(mdp, field).copy()
        array[place] = value
        return dataclasses.replace(mdp, **{field: array})

    return changed


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (change("probability", (2, 1, 0), 0.5), "state 2 and action 1 .* sum to 1, found 0.5"),
        (change("probability", (3, 0, 0), np.nan), "state 3 and action 0"),
        (change("next_state", (1, 0, 0), 9), "state 1 and action 0 must lead to one of 5 states"),
        (change("reward", (4, 1, 0), np.inf), "state 4 and action 1 must have finite rewards"),
        (change("start", 0, 0.4), "start must have probabilities"),
        (change("next_state", (3, 0, 0), 2), "goal, state 4, cannot be reached from the start"),
        (lambda: dataclasses.replace(line_mdp(), discount=0.0), "discount must be above 0"),
        (lambda: dataclasses.replace(line_mdp(), discount=1.01), "at most 1, found 1.01"),
        (lambda: dataclasses.replace(line_mdp(), start=np.ones(3) / 3), r"found .* start \(3,\)"),
        (lambda: dataclasses.replace(line_mdp(), reward=np.ones((5, 2))), r"reward \(5, 2\)"),
        (lambda: dataclasses.replace(line_mdp(), goal=5), "goal, state 5, cannot be reached"),
        (lambda: mdp_from_table(np.ones((2, 2)), 0, [1, 0], 0.9), "transition must be"),
        (lambda: mdp_from_table(np.ones((2, 1, 2)), [[1]], [1, 0], 0.9), "the reward must be"),
        (lambda: with_slip(line_mdp(), 1.5), "slip must be between 0 and 1"),
        (lambda: random_mdp(fan_in=7), "must be a multiple of fan_in"),
        (lambda: deep_sea_mdp(1), "size must be an integer of at least 2"),
        (lambda: maze_mdp(reward_on="never"), "must be one of .*entering, found 'never'"),
        (lambda: maze_mdp("+-+\n|x|\n+-+"), "one goal G, at least one start s, .* found 'x'"),
        (lambda: maze_mdp("+-+\n|s|\n+-+"), "one goal G, at least one start s, .* found 's'"),
        (lambda: maze_mdp("+-+-+\n|s|G|\n+-+-+"), "cannot be reached"),
        (lambda: maze_mdp("sG"), "a drawing has lines of walls"),
    ],
)
def test_what_is_no_process_is_refused_in_one_sentence(make, told):
    with pytest.raises(ConfigError, match=told) as error:
        make()
    assert "\n" not in str(error.value)


def test_the_maze_has_the_walls_of_its_drawing():
    mdp = maze_mdp(FOUR_ROOMS)
    assert mdp.grid is not None
    assert len(mdp.grid.walls) == 16, "eight walls, each between two cells in both orders"
    assert mdp.terminates.all(axis=(1, 2)).sum() == 2
    number = {cell: state for state, cell in enumerate(mdp.grid.cells)}
    east, west, north, south = mdp.next_state[number[2, 2], :, 0]
    assert (east, west) == (number[2, 2], number[2, 1])
    assert (north, south) == (number[1, 2], number[2, 2])
    pays = {mdp.grid.cells[s]: r for s, r in enumerate(mdp.expected_reward[:, 0]) if r}
    assert pays == {(0, 5): -1.0, (4, 4): 1.0}


def test_entering_pays_one_step_earlier():
    mdp = maze_mdp(reward_on="entering")
    assert mdp.grid is not None
    paid = {mdp.grid.cells[s] for s in np.flatnonzero((mdp.expected_reward == 1.0).any(axis=1))}
    assert paid == {(4, 3), (4, 5), (3, 4), (5, 4)}
    assert (mdp.terminates[..., 0] >= (mdp.reward[..., 0] != 0)).all()


def test_the_deep_sea_is_found_by_one_sequence_of_actions():
    mdp = deep_sea_mdp(7, mapping_seed=3)
    state, total, actions = 0, 0.0, []
    for _ in range(7):
        action = (
            int(mdp.reward[state, :, 0].argmin())
            if state < 21
            else int(mdp.reward[state, :, 0].argmax())
        )
        actions.append(action)
        total += mdp.reward[state, action, 0]
        ended = mdp.terminates[state, action, 0]
        state = mdp.next_state[state, action, 0]
    assert ended and total == pytest.approx(0.99)
    assert 0 < sum(actions) < 7, "what an action means differs from cell to cell"


@pytest.mark.parametrize(("fan_in", "fan_out"), [(1, 1), (4, 1), (4, 4), (16, 2), (1, 4)])
def test_random_processes_have_the_branching_that_was_asked_for(fan_in, fan_out):
    mdp = random_mdp(8, 4, fan_in=fan_in, fan_out=fan_out, seed=2)
    leads = mdp.transition[:8] > 0
    assert (leads.sum(axis=2) == fan_out).all()
    assert (leads.sum(axis=(0, 1))[8:] == fan_in).all()
