"""A model that fits into the kernel: the same trees as when it is asked about all roots at once."""

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

from muzero_jax.search import engine
from muzero_jax.search.gumbel_rules import CompletedQValues, ImprovedPolicyRule
from muzero_jax.search.puct_rule import PuctRule
from muzero_jax.search.row_model import as_row_model

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


def outside(lower, upper, body, state):
    """A loop that the engine does not know, so that it asks the model outside of the kernel."""
    return jax.lax.fori_loop(lower, upper, body, state)


def tree_of(tables, rule, search=engine.search, batch_size=4, **options):
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
        recurrent_fn=look_up,
        root_action_selection_fn=rule,
        interior_action_selection_fn=rule,
        num_simulations=20,
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
    np.testing.assert_allclose(ours.node_values, reference.node_values, rtol=1e-6, atol=1e-6)


def test_members_of_a_vmap_have_their_own_tables():
    tables = jax.tree.map(lambda *x: jnp.stack(x), *map(random_tables, range(3)))
    # Half of the tables are shared by all members.
    axes = {name: 0 if name in ("reward", "next_state") else None for name in tables}
    mixed = {name: x if axes[name] == 0 else x[0] for name, x in tables.items()}
    together = jax.jit(jax.vmap(lambda t: tree_of(t, RULES[2]), in_axes=(axes,)))(mixed)
    for i in range(3):
        own = {name: x[i] if axes[name] == 0 else x for name, x in mixed.items()}
        alone = jax.jit(lambda t: tree_of(t, RULES[2]))(own)
        assert_equal_trees(jax.tree.map(lambda x, i=i: x[i], together), alone)
    nested = jax.vmap(jax.vmap(lambda t: tree_of(t, RULES[1])))
    pairs = jax.tree.map(lambda x: jnp.stack([x, x[::-1]]), tables)
    alone = jax.vmap(lambda t: tree_of(t, RULES[1]))(tables)
    many = jax.jit(nested)(pairs)
    assert_equal_trees(jax.tree.map(lambda x: x[0], many), alone)
    assert_equal_trees(jax.tree.map(lambda x: x[1, ::-1], many), alone)


def row_model(model, embedding_size=2):
    return as_row_model(model, jax.random.key(0), jnp.zeros((4, embedding_size)))


def test_which_models_fit_into_a_kernel():
    """None that draws random numbers, multiplies matrices, computes vectors, or reads much."""

    table = jnp.ones(20_000)

    def answers(number, embedding):
        return {"reward": number}, embedding

    def simple(rng_key, action, embedding):
        return answers(embedding.sum(axis=-1) * action, embedding)

    def random(rng_key, action, embedding):
        return answers(jax.random.normal(rng_key, action.shape), embedding)

    def matrix(rng_key, action, embedding):
        return answers((embedding @ jnp.eye(2)).sum(axis=-1), embedding)

    def large(rng_key, action, embedding):
        return answers(table[action], embedding)

    assert row_model(simple) is not None
    assert row_model(simple, embedding_size=200) is not None, "it only sums what is there"
    vectors = row_model(lambda k, a, e: simple(k, a, jnp.tanh(e)), embedding_size=200)
    assert vectors is row_model(random) is row_model(matrix) is row_model(large) is None


@pytest.mark.parametrize("scaling", ["none", "tree"])
def test_looking_up_the_weight_of_the_prior_is_computing_it(scaling):
    def run(max_visits):
        rule = PuctRule(scaling=scaling, pb_c_base=20.0, max_visits=max_visits)
        return jax.jit(lambda t: tree_of(t, rule))(random_tables(2))

    computed, looked_up, too_short = run(None), run(21), run(12)
    np.testing.assert_array_equal(looked_up.children_index, computed.children_index)
    assert (too_short.children_index != computed.children_index).any()
