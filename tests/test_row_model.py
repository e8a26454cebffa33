"""A model that fits into the kernel: the same trees as when it is asked about all roots at once."""

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

from muzero_jax.search import engine
from muzero_jax.search.gumbel import CompletedQValues, ImprovedPolicyRule
from muzero_jax.search.puct import PuctRule
from muzero_jax.search.row_model import NodeModel

pytestmark = pytest.mark.optimised
RULES = [
    ImprovedPolicyRule(CompletedQValues()),
    PuctRule(scaling="tree"),
    PuctRule(scaling="none", max_visits=21),
]


def random_tables(seed, num_states=7, num_actions=3):
    """Tables of a random process; a state's embedding is its number, and how often it was left."""
    rng = np.random.default_rng(seed)
    shape = num_states, num_actions
    return {
        "next_state": jnp.asarray(rng.integers(0, num_states, shape), jnp.int32),
        "reward": jnp.asarray(rng.normal(size=shape), jnp.float32),
        "prior_logits": jnp.asarray(rng.normal(size=shape), jnp.float32),
        "value": jnp.asarray(rng.normal(size=num_states), jnp.float32),
    }


def look_up(tables, rng_key, action, embedding):
    del rng_key
    state = tables["next_state"][embedding["state"], action]
    output = mctx.RecurrentFnOutput(
        reward=tables["reward"][embedding["state"], action],
        discount=jnp.where(state == 0, 0.0, jnp.full(state.shape, 0.9)),
        prior_logits=tables["prior_logits"][state],
        value=tables["value"][state],
    )
    return output, {"state": state, "age": embedding["age"] + 1.0}


LOOK_UP = NodeModel(look_up)


def outside(lower, upper, body, state):
    """A loop that the engine does not know, so that it asks the model outside of the kernel."""
    return jax.lax.fori_loop(lower, upper, body, state)


def tree_of(
    tables, rule, search=engine.search, batch_size=4, num_simulations=20, model=LOOK_UP, **options
):
    state = jnp.arange(batch_size, dtype=jnp.int32) % tables["value"].shape[0]
    root = mctx.RootFnOutput(
        prior_logits=tables["prior_logits"][state],
        value=tables["value"][state],
        embedding={"state": state, "age": jnp.zeros(batch_size)},
    )
    return search(
        tables,
        jax.random.key(0),
        root=root,
        recurrent_fn=model,
        root_action_selection_fn=rule,
        interior_action_selection_fn=rule,
        num_simulations=num_simulations,
        **options,
    )


def assert_equal_trees(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("max_depth", [None, 3])
@pytest.mark.parametrize("rule", RULES)
def test_the_trees_are_those_of_a_model_outside_of_the_kernel(rule, max_depth):
    tables = random_tables(0)
    inside = jax.jit(lambda t: tree_of(t, rule, max_depth=max_depth))(tables)
    apart = jax.jit(lambda t: tree_of(t, rule, max_depth=max_depth, loop_fn=outside))(tables)
    assert_equal_trees(inside, apart)
    assert (inside.embeddings["age"].max() > 1) and (inside.node_visits[:, 0] == 21).all()


def test_the_trees_are_those_of_mctx():
    tables = random_tables(1)
    rule = ImprovedPolicyRule(CompletedQValues())

    def at_root(rng_key, tree, node_index):
        return rule(rng_key, tree, node_index, 0)

    def theirs(*args, **options):
        return mctx.search(*args, **{**options, "root_action_selection_fn": at_root})

    ours, reference = (
        jax.jit(lambda t, s=search: tree_of(t, rule, s))(tables)
        for search in (engine.search, theirs)
    )
    np.testing.assert_array_equal(ours.children_index, reference.children_index)
    np.testing.assert_allclose(ours.node_values, reference.node_values, rtol=1e-5, atol=1e-5)


def test_members_of_a_vmap_have_their_own_tables():
    tables = jax.tree.map(lambda *x: jnp.stack(x), *map(random_tables, range(3)))
    # Half of the tables are shared by all members.
    axes = {name: 0 if name in ("reward", "next_state") else None for name in tables}
    mixed = {name: x if axes[name] == 0 else x[0] for name, x in tables.items()}
    together = jax.jit(jax.vmap(lambda t: tree_of(t, RULES[2]), in_axes=(axes,)))(mixed)
    single = jax.jit(lambda t: tree_of(t, RULES[2]))
    for i in range(3):
        own = {name: x[i] if axes[name] == 0 else x for name, x in mixed.items()}
        alone = single(own)
        assert_equal_trees(jax.tree.map(lambda x, i=i: x[i], together), alone)
    nested = jax.vmap(jax.vmap(lambda t: tree_of(t, RULES[1])))
    pairs = jax.tree.map(lambda x: jnp.stack([x, x[::-1]]), tables)
    alone = jax.jit(jax.vmap(lambda t: tree_of(t, RULES[1])))(tables)
    many = jax.jit(nested)(pairs)
    assert_equal_trees(jax.tree.map(lambda x: x[0], many), alone)
    assert_equal_trees(jax.tree.map(lambda x: x[1, ::-1], many), alone)


def test_a_model_that_knows_its_row_is_asked_about_all_roots():
    """It closes over what belongs to a root, as a bandit may, and is no `NodeModel`."""
    rewards = jnp.eye(3)[::-1]

    def bandit(tables, rng_key, action, embedding):
        reward = rewards[jnp.arange(action.shape[0]), action]
        output = mctx.RecurrentFnOutput(
            reward=reward,
            discount=jnp.zeros(action.shape),
            prior_logits=jnp.zeros((*action.shape, 3)),
            value=jnp.zeros(action.shape),
        )
        return output, embedding

    tree = jax.jit(lambda t: tree_of(t, RULES[1], batch_size=3, model=bandit))(random_tables(0))
    np.testing.assert_array_equal(tree.children_rewards[:, 0], rewards)


def test_no_simulations_leave_the_roots():
    tree = jax.jit(lambda t: tree_of(t, RULES[1], num_simulations=0))(random_tables(0))
    assert tree.node_visits.shape == (4, 1) and (tree.node_visits == 1).all()


@pytest.mark.parametrize("scaling", ["none", "tree"])
def test_looking_up_the_weight_of_the_prior_is_computing_it(scaling):
    def run(max_visits):
        rule = PuctRule(scaling=scaling, pb_c_base=20.0, max_visits=max_visits)
        return jax.jit(lambda t: tree_of(t, rule))(random_tables(2))

    computed, looked_up, too_short = run(None), run(21), run(12)
    np.testing.assert_array_equal(looked_up.children_index, computed.children_index)
    assert (too_short.children_index != computed.children_index).any()
