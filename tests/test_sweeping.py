"""Planning over tables, against the exact answers; and how few backups sweeping backwards needs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.tabular.oracle.dynamic_programming import policy_return, solve
from muzero_jax.tabular.oracle.sweeping import (
    SweepingState,
    priorities_of_all,
    sweep_most_urgent,
    sweep_to_convergence,
    table_of,
)
from muzero_jax.tabular.processes.gridworld import maze_mdp
from muzero_jax.tabular.processes.mdp_families import chain_mdp, deep_sea_mdp, random_mdp
from muzero_jax.tabular.processes.mdp_transforms import with_slip

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
    table = table_of(mdp)
    qvalue = nothing_known(mdp)
    state = SweepingState(qvalue, priorities_of_all(table, qvalue, mdp.discount))

    def step(_, state):
        return sweep_most_urgent(table, state, mdp.discount, threshold=1e-6)

    return jax.jit(lambda state: jax.lax.fori_loop(0, num_backups, step, state))(state)


@pytest.mark.parametrize("mdp", MDPS, ids=lambda mdp: mdp.name)
def test_prioritised_sweeping_finds_the_exact_values(mdp):
    swept = sweep(mdp, 20_000)
    np.testing.assert_allclose(swept.qvalue[:-1], solve(mdp).qvalues, atol=2e-4)
    assert not swept.priority.any(), "no pair waits any more"


@pytest.mark.parametrize("size", [10, 20, 40])
def test_the_deep_sea_is_swept_with_a_backup_for_each_row(size):
    # Action 1 always goes right, so that a tie, which goes to action 0, is of no help.
    mdp = deep_sea_mdp(size, mapping_seed=-1)
    one_less, enough = (
        policy_return(mdp, np.argmax(sweep(mdp, num).qvalue[:-1], axis=1))
        for num in (size - 1, size)
    )
    assert enough == pytest.approx(0.99) and one_less < 0.9
