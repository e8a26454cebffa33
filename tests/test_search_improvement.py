"""Search against the exact answers of the maze: contract line 10."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.config import SearchConfig
from muzero_jax.search.policies import (
    RecurrentFnOutput,
    RootFnOutput,
    SearchNoise,
    make_search,
)
from muzero_jax.tabular.oracle.dynamic_programming import policy_value, solve
from muzero_jax.tabular.outcomes import table_of
from muzero_jax.tabular.processes.gridworld import maze_mdp

MAZE = maze_mdp()
IS_TERMINAL = MAZE.terminates.all(axis=(1, 2))
UNIFORM = np.full((36, 4), 0.25)


def search_of_the_truth(config):
    """From priors `[S, A]`, values `[S]` and a seed to a search of every state's true model."""
    table, end = table_of(MAZE), MAZE.num_states
    next_state = jnp.vstack([table.next_state[..., 0], jnp.full((1, 4), end)])
    reward = jnp.vstack([table.reward[..., 0], jnp.zeros((1, 4))])

    def recurrent_fn(params, rng_key, action, state):
        logits, values = params
        following = next_state[state, action]
        step = RecurrentFnOutput(
            reward=reward[state, action],
            discount=jnp.full(action.shape, MAZE.discount),
            prior_logits=logits[following],
            value=values[following],
        )
        return step, following

    @jax.jit
    def search(prior, value, rng_key):
        logits = jnp.log(jnp.vstack([prior, jnp.full((1, 4), 0.25)]))
        values = jnp.append(value, 0.0)
        states = jnp.arange(end)
        root = RootFnOutput(prior_logits=logits[:-1], value=value, embedding=states)
        legal = jnp.ones((end, 4), bool)
        params, noise = (logits, values), SearchNoise.none()
        return make_search(config)(params, rng_key, root, recurrent_fn, legal, noise)

    def run(prior, value, seed=0):
        given = jnp.asarray(prior, jnp.float32), jnp.asarray(value, jnp.float32)
        return search(*given, jax.random.key(seed))

    return run


@pytest.mark.parametrize("num_simulations", [2, 4, 8, 16])
def test_gumbel_search_never_lowers_the_value_of_its_prior(num_simulations):
    """With the prior's exact values, in any state (Danihelka et al. 2022, section 3).

    The value of a policy that follows the improved one for one step, and then the prior.
    """
    rng = np.random.default_rng(num_simulations)
    search = search_of_the_truth(
        SearchConfig(num_simulations=num_simulations, min_qvalue_range=1e-8)
    )
    for seed in range(6):
        prior = rng.dirichlet(np.full(4, 0.5), size=MAZE.num_states) * 0.99 + 0.0025
        value = policy_value(MAZE, prior)
        output = search(prior, value, seed)
        improved = policy_value(MAZE, np.asarray(output.action_weights, np.float64))
        assert (improved >= value - 1e-6).all()


@pytest.mark.parametrize("num_simulations", [16, 256])
def test_search_with_the_exact_values_picks_an_optimal_action_everywhere(num_simulations):
    solution = solve(MAZE)
    config = SearchConfig(num_simulations=num_simulations, min_qvalue_range=1e-8, value_scale=1.0)
    output = search_of_the_truth(config)(UNIFORM, solution.value)
    action = np.asarray(output.action)
    assert solution.optimal_actions[np.arange(36), action].all()
    assert (~IS_TERMINAL).sum() == 34


def test_search_alone_finds_the_goal_that_it_can_reach():
    """Without any values, from states so close that the tree gets to the goal."""
    solution = solve(MAZE)
    config = SearchConfig(num_simulations=1_500, min_qvalue_range=1e-8, value_scale=1.0)
    output = search_of_the_truth(config)(UNIFORM, np.zeros(36))
    close = (solution.value >= 0.97) & ~IS_TERMINAL
    action = np.asarray(output.action)
    assert close.sum() >= 8
    assert solution.optimal_actions[np.arange(36), action][close].all()
