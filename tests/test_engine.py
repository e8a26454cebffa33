"""Both engines against mctx: the same actions, visits and values, for any rule and any tree."""

import functools

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest
from toy_task import ToyTask

from muzero_jax.search import engine
from muzero_jax.search.gumbel import CompletedQValues, gumbel_policy
from muzero_jax.search.puct import PuctRule, puct_policy

pytestmark = pytest.mark.optimised
COMPLETED = CompletedQValues()


def legal_masks(batch_size, num_actions, num_legal, seed):
    """`[B, A]` bool, True where invalid: `num_legal` legal actions a row, or all of them for 0."""
    order = np.random.default_rng(seed).random((batch_size, num_actions)).argsort(axis=-1)
    return jnp.asarray(order >= (num_legal or num_actions))


def ours(policy, search_tree, weights, key, root, invalid, network, num_simulations, **limits):
    search = functools.partial(
        search_tree, params=weights, recurrent_fn=network.recurrent_fn, **limits
    )
    if policy == "gumbel":
        options = {"completed": COMPLETED, "max_num_considered_actions": 16, "gumbel_scale": 1.0}
        run = gumbel_policy
    else:
        options = {
            "rule": PuctRule(max_visits=num_simulations + 1),
            "dirichlet_alpha": 0.3,
            "dirichlet_fraction": 0.25,
            "temperature": 1.0,
        }
        run = puct_policy
    out = run(search, key, root, invalid, num_simulations=num_simulations, **options)
    return out.action, out.action_weights, out.tree


def theirs(policy, weights, key, root, invalid, network, num_simulations, **limits):
    run = mctx.gumbel_muzero_policy if policy == "gumbel" else mctx.muzero_policy
    out = run(
        weights, key, root, network.recurrent_fn, num_simulations, invalid_actions=invalid, **limits
    )
    return out.action, out.action_weights, out.search_tree


@functools.cache
def programs(policy, num_actions, embedding_size, num_simulations, **limits):
    """The search by both engines and by mctx, compiled once for all tasks."""
    network = ToyTask(num_actions, embedding_size)
    options = {"network": network, "num_simulations": num_simulations, **limits}
    engines = [functools.partial(engine.search, cpp=cpp) for cpp in (True, False)]
    runs = [functools.partial(ours, policy, grow) for grow in engines]
    return [
        jax.jit(functools.partial(run, **options))
        for run in (*runs, functools.partial(theirs, policy))
    ]


def run_all(policy, network, batch_size, num_simulations, num_legal=0, seed=0, **limits):
    keys = jax.random.split(jax.random.key(seed), 3)
    weights = network.init(keys[0])
    root = network.root(weights, keys[1], batch_size)
    invalid = legal_masks(batch_size, network.num_actions, num_legal, seed)
    sizes = network.num_actions, network.embedding_size, num_simulations
    return [run(weights, keys[2], root, invalid) for run in programs(policy, *sizes, **limits)]


def assert_same(cpp, linear, reference):
    """Identical decisions and counts, values to 1e-5 of their size; ours to the last bit."""
    for leaves in zip(*map(jax.tree.leaves, (cpp, linear, reference)), strict=True):
        cpp_, linear_, theirs = leaves
        assert linear_.shape == theirs.shape and linear_.dtype == theirs.dtype
        np.testing.assert_array_equal(cpp_, linear_)
        if jnp.issubdtype(theirs.dtype, jnp.floating):
            np.testing.assert_allclose(linear_, theirs, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(linear_, theirs)


# Priors, values, ends and players: each is a task for the same compiled programs.
TASKS = [
    {},
    {"sharpness": 0.0, "mean_value": 0.0, "reward_scale": 1.0},
    {"sharpness": 6.0, "termination_rate": 0.2},
    {"sharpness": 60.0, "discount": -1.0, "mean_value": 0.0},
    {"sharpness": 6.0, "discount": -1.0, "reward_scale": 1.0, "termination_rate": 0.2},
    {"discount": 0.0, "reward_scale": 1.0},
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "num_actions", "batch_size", "num_simulations", "max_depth"),
    [
        ("gumbel", 82, 16, 32, None),
        ("gumbel", 3, 5, 24, 2),
        ("puct", 82, 5, 50, 5),
        ("puct", 1, 1, 3, 1),
    ],
)
def test_the_engines_find_what_mctx_finds(
    policy, num_actions, batch_size, num_simulations, max_depth
):
    for seed, task in enumerate(TASKS):
        network = ToyTask(num_actions, embedding_size=8, **task)
        sizes = batch_size, num_simulations, (0, 1, num_actions // 2)[seed % 3]
        assert_same(*run_all(policy, network, *sizes, seed, max_depth=max_depth))


@pytest.mark.parametrize("policy", ["gumbel", "puct"])
def test_deep_trees_too(policy):
    for sharpness in (1.0, 6.0):
        results = run_all(policy, ToyTask(4, sharpness=sharpness), 64, 200)
        assert_same(*results)
        # The case is worth its time only if the trees are deep.
        assert (np.asarray(results[-1][2].parents)[:, -1] > 20).any()
