"""Both engines against mctx: the same actions, visits and values, for any rule and any tree."""

import functools

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muzero_jax.profiling.toy_network import ToyNetwork
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


def run_all(policy, network, batch_size, num_simulations, num_legal=0, seed=0, **limits):
    keys = jax.random.split(jax.random.key(seed), 3)
    weights = network.init(keys[0])
    root = network.root(weights, keys[1], batch_size)
    invalid = legal_masks(batch_size, network.num_actions, num_legal, seed)

    def jitted(run):
        function = functools.partial(
            run, network=network, num_simulations=num_simulations, **limits
        )
        return jax.jit(lambda *args: function(*args))(weights, keys[2], root, invalid)

    cpp, linear = (
        jitted(functools.partial(ours, policy, functools.partial(engine.search, cpp=cpp)))
        for cpp in (True, False)
    )
    return cpp, linear, jitted(functools.partial(theirs, policy))


def assert_same(cpp, linear, reference):
    """Identical decisions and counts, values to 1e-6 of their size; ours to the last bit."""
    for leaves in zip(*map(jax.tree.leaves, (cpp, linear, reference)), strict=True):
        cpp_, linear_, theirs = leaves
        assert linear_.shape == theirs.shape and linear_.dtype == theirs.dtype
        np.testing.assert_array_equal(cpp_, linear_)
        if jnp.issubdtype(theirs.dtype, jnp.floating):
            np.testing.assert_allclose(linear_, theirs, rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(linear_, theirs)


@st.composite
def cases(draw):
    num_actions = draw(st.sampled_from([1, 2, 3, 4, 7, 16, 18, 33, 82]))
    network = ToyNetwork(
        num_actions,
        embedding_size=8,
        sharpness=draw(st.sampled_from([0.0, 1.0, 6.0, 60.0])),
        mean_value=draw(st.sampled_from([0.0, -16.0])),
        discount=draw(st.sampled_from([0.99, -1.0, 0.0])),
        termination_rate=draw(st.sampled_from([0.0, 0.2])),
        reward_scale=draw(st.sampled_from([0.0, 1.0])),
    )
    return {
        "policy": draw(st.sampled_from(["gumbel", "puct"])),
        "network": network,
        "batch_size": draw(st.sampled_from([1, 2, 5, 64])),
        "num_simulations": draw(st.integers(1, 24)),
        "num_legal": draw(st.integers(0, num_actions)),
        "max_depth": draw(st.sampled_from([None, 1, 2, 5])),
        "seed": draw(st.integers(0, 9)),
    }


@pytest.mark.slow
@settings(
    max_examples=10, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(cases())
def test_the_engines_find_what_mctx_finds(case):
    assert_same(*run_all(**case))


@pytest.mark.parametrize("policy", ["gumbel", "puct"])
@pytest.mark.parametrize("sharpness", [1.0, 6.0])
def test_deep_trees_too(policy, sharpness):
    results = run_all(policy, ToyNetwork(4, sharpness=sharpness), 64, 200)
    assert_same(*results)
    # The case is worth its time only if the trees are deep.
    assert (np.asarray(results[-1][2].parents)[:, -1] > 20).any()


@pytest.mark.slow
def test_the_widest_root():
    assert_same(*run_all("gumbel", ToyNetwork(82, sharpness=6.0), 64, 32, num_legal=40))
    assert_same(*run_all("puct", ToyNetwork(82), 16, 50, num_legal=1))
