"""Search against the exact answers of finite processes: contract line 10."""

import dataclasses
import functools

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
from muzero_jax.tabular.processes.mdp import TabularMDP

MAZE = maze_mdp()
IS_TERMINAL = MAZE.terminates.all(axis=(1, 2))
UNIFORM = np.full((36, 4), 0.25)


def random_process(seed, num_states=40, num_actions=4):
    """A deterministic process with cycles, in which a tenth of the pairs end the episode."""
    rng = np.random.default_rng(seed)
    shape = (num_states, num_actions, 1)
    return TabularMDP(
        name="random",
        next_state=rng.integers(num_states, size=shape),
        probability=np.ones(shape),
        reward=rng.normal(size=shape),
        terminates=rng.random(shape) < 0.1,
        start=np.full(num_states, 1 / num_states),
        discount=0.95,
    )


RANDOM = [random_process(seed) for seed in range(12)]


@functools.cache
def compiled_search(config):
    """A search of every state's true model; processes of one size share the program."""

    def recurrent_fn(params, rng_key, action, state):
        table, logits, values = params
        following = table["next_state"][state, action]
        step = RecurrentFnOutput(
            reward=table["reward"][state, action],
            discount=jnp.broadcast_to(table["discount"], action.shape),
            prior_logits=logits[following],
            value=values[following],
        )
        return step, following

    @jax.jit
    def search(table, prior, value, rng_key):
        num_states, num_actions = prior.shape
        end = jnp.full((1, num_actions), 1 / num_actions)
        logits, values = jnp.log(jnp.vstack([prior, end])), jnp.append(value, 0.0)
        states, legal = jnp.arange(num_states), jnp.ones(prior.shape, bool)
        root = RootFnOutput(prior_logits=logits[:-1], value=value, embedding=states)
        params, noise = (table, logits, values), SearchNoise.none()
        return make_search(config)(params, rng_key, root, recurrent_fn, legal, noise)

    return search


def search_of_the_truth(config, mdp=MAZE):
    """From priors `[S, A]`, values `[S]` and a seed to a search of every state's true model."""
    known, end = table_of(mdp), np.zeros((1, mdp.num_actions))
    table = {
        "next_state": jnp.vstack([known.next_state[..., 0], jnp.int32(end + mdp.num_states)]),
        "reward": jnp.vstack([known.reward[..., 0], jnp.float32(end)]),
        "discount": jnp.float32(mdp.discount),
    }

    def run(prior, value, seed=0):
        given = jnp.asarray(prior, jnp.float32), jnp.asarray(value, jnp.float32)
        return compiled_search(config)(table, *given, jax.random.key(seed))

    return run


def random_prior(rng, mdp):
    """Probabilities `[S, A]` of which none is very small."""
    drawn = rng.dirichlet(np.full(mdp.num_actions, 0.5), size=mdp.num_states)
    return drawn * 0.99 + 0.01 / mdp.num_actions


@pytest.mark.parametrize("min_qvalue_range", [1e-8, 0.1])
@pytest.mark.parametrize("num_simulations", [2, 4, 8, 16])
def test_gumbel_search_never_lowers_the_exact_value_of_the_whole_policy(
    num_simulations, min_qvalue_range
):
    """The policy that takes the improved probabilities in *every* state is nowhere worse.

    The search is given the exact values of its prior. The value of the improved policy is that of
    following it for ever, from the linear equations of the process. Following it for one step and
    the prior afterwards is another policy, of which no such thing is promised (Danihelka et al.
    2022, section 3, promise it for exact Q-values, and those of a tree are mixed).
    """
    rng = np.random.default_rng(num_simulations)
    config = SearchConfig(num_simulations=num_simulations, min_qvalue_range=min_qvalue_range)
    for seed, mdp in enumerate([MAZE] * 6 + RANDOM):
        prior = random_prior(rng, mdp)
        value = policy_value(mdp, prior)
        output = search_of_the_truth(config, mdp)(prior, value, seed)
        improved = policy_value(mdp, np.asarray(output.action_weights, np.float64))
        assert (improved >= value - 1e-5).all()
        assert (improved > value + 1e-3).any()


@pytest.mark.parametrize("num_simulations", [16, 256])
def test_search_with_the_exact_values_picks_an_optimal_action_everywhere(num_simulations):
    solution = solve(MAZE)
    config = SearchConfig(num_simulations=num_simulations, min_qvalue_range=1e-8, value_scale=1.0)
    output = search_of_the_truth(config)(UNIFORM, solution.value)
    action = np.asarray(output.action)
    assert solution.optimal_actions[np.arange(36), action].all()
    assert (~IS_TERMINAL).sum() == 34


@pytest.mark.parametrize("given", ["nothing", "exact values"])
def test_puct_agrees_with_value_iteration_as_simulations_grow(given):
    """Every action below the root is tried again and again, so that all backups settle.

    Gumbel search makes no such promise: below its root an action whose Q-value has once fallen
    behind is hardly visited again, and its values stop improving before they are exact.
    """
    processes = [dataclasses.replace(mdp, discount=0.7) for mdp in RANDOM[:3]]
    solutions = [solve(mdp) for mdp in processes]
    regrets, errors = [], []
    for num_simulations in (16, 256, 4096):
        config = SearchConfig(policy="muzero", num_simulations=num_simulations)
        regret = error = 0.0
        for mdp, solution in zip(processes, solutions, strict=True):
            value = solution.value if given == "exact values" else np.zeros(mdp.num_states)
            output = search_of_the_truth(config, mdp)(np.full((40, 4), 0.25), value)
            chosen = solution.qvalues[np.arange(40), np.asarray(output.action)]
            regret += (solution.value - chosen).mean() / len(processes)
            error += np.abs(output.search_value - solution.value).mean() / len(processes)
        regrets.append(regret)
        errors.append(error)
    # A state is worth about 3: rewards of size 1 at a discount of 0.7.
    for series, last in ((regrets, 0.1), (errors, 0.5)):
        assert (np.diff(np.log(series)) < np.log(2 / 3)).all() and series[2] < last


def test_search_alone_finds_the_goal_that_it_can_reach():
    """Without any values, from states so close that the tree gets to the goal."""
    solution = solve(MAZE)
    config = SearchConfig(num_simulations=1_500, min_qvalue_range=1e-8, value_scale=1.0)
    output = search_of_the_truth(config)(UNIFORM, np.zeros(36))
    close = (solution.value >= 0.97) & ~IS_TERMINAL
    action = np.asarray(output.action)
    assert close.sum() >= 8
    assert solution.optimal_actions[np.arange(36), action][close].all()
