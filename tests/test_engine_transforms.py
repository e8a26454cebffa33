"""The engines under JAX's transformations, with any rule, and at the edges of its numbers."""

import functools
import hashlib
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest
from toy_task import ToyTask

from muzero_jax.search import cpp_library, engine
from muzero_jax.search.gumbel import (
    CompletedQValues,
    ImprovedPolicyRule,
    SequentialHalvingRule,
)
from muzero_jax.search.puct import PuctRule

pytestmark = pytest.mark.optimised
NETWORK = ToyTask(3, embedding_size=8, sharpness=2.0, reward_scale=1.0)
WEIGHTS = NETWORK.init(jax.random.key(0))
ENGINES = {"cpp": functools.partial(engine.search, cpp=True), "linear": engine.search}
each_engine = pytest.mark.parametrize("search", ENGINES.values(), ids=ENGINES.keys())
GOLDEN = Path(__file__).parent / "golden_search.json"


def tree_of(
    search=engine.search,
    rule=None,
    weights=WEIGHTS,
    seed=0,
    batch_size=4,
    num_simulations=12,
    network=NETWORK,
    root=None,
    **options,
) -> mctx.Tree:
    """By Gumbel MuZero's rules, or by the same `rule` at the root and below it."""
    if root is None:
        root = network.root(weights, jax.random.fold_in(jax.random.key(1), seed), batch_size)
    if rule is None:
        rule = ImprovedPolicyRule(CompletedQValues())
        at_root = SequentialHalvingRule(rule.completed, num_simulations, 16)
        # Of each row by itself, so that rows can be divided.
        noise = jnp.sin(9.0 * root.embedding[:, : network.num_actions])
        options["extra_data"] = mctx.GumbelMuZeroExtraData(root_gumbel=noise)
    else:
        at_root = rule if hasattr(rule, "decide") else functools.partial(rule, depth=0)
    return search(
        weights,
        jax.random.fold_in(jax.random.key(2), seed),
        root=root,
        recurrent_fn=network.recurrent_fn,
        root_action_selection_fn=at_root,
        interior_action_selection_fn=rule,
        num_simulations=num_simulations,
        **options,
    )


def root_of(seed):
    return NETWORK.root(WEIGHTS, jax.random.fold_in(jax.random.key(1), seed), 4)


@functools.cache
def compiled(name, rule):
    """`(root, seed) -> tree` of 12 simulations, compiled once for all tests."""
    search = mctx.search if name == "mctx" else ENGINES[name]
    return jax.jit(lambda root, seed: tree_of(search, rule, seed=seed, root=root))


def assert_same_trees(a, b):
    """Equal up to the rounding of two programs, whose sums another processor may order anew."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("engine_name", "rule"),
    [
        ("cpp", None),
        ("cpp", PuctRule()),
        ("linear", None),
        ("linear", PuctRule()),
        ("linear", PuctRule(scaling="tree")),
    ],
)
def test_vmap_over_seeds_is_each_seed_alone(engine_name, rule):
    def one(seed):
        return tree_of(ENGINES[engine_name], rule, seed=seed)

    together = jax.jit(jax.vmap(one))(jnp.arange(3))
    for seed in range(3):
        alone = compiled(engine_name, rule)(root_of(seed), seed)
        assert_same_trees(jax.tree.map(lambda x, i=seed: x[i], together), alone)


def test_vmap_over_seeds_and_hyperparameters_with_a_traced_rule():
    def one(seed, pb_c_init):
        rule = functools.partial(mctx.muzero_action_selection, pb_c_init=pb_c_init)
        return tree_of(rule=rule, seed=seed, root=None)

    constants = jnp.array([0.5, 5.0])
    many = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(jnp.arange(2), constants)
    single = jax.jit(one)
    for i, j in ((0, 0), (0, 1), (1, 1)):
        alone = single(i, constants[j])
        assert_same_trees(jax.tree.map(lambda x, i=i, j=j: x[i, j], many), alone)
    assert (many.children_visits[0, 0] != many.children_visits[0, 1]).any()


@pytest.mark.parametrize("name", ENGINES)
def test_scan_over_searches_is_one_after_another(name):
    step = lambda c, seed: (c, tree_of(ENGINES[name], seed=seed))  # noqa: E731
    _, trees = jax.lax.scan(step, 0, jnp.arange(2))
    assert_same_trees(jax.tree.map(lambda x: x[1], trees), compiled(name, None)(root_of(1), 1))


SPREAD = """
import jax, numpy as np, test_engine_transforms as t, test_row_model as r
devices = np.asarray(jax.devices())
assert len(devices) == 2
root = t.NETWORK.root(t.WEIGHTS, jax.random.key(3), 6)
alone = t.compiled("linear", None)(root, 0)
mesh = jax.sharding.Mesh(devices, ("batch",))
spec = jax.sharding.PartitionSpec("batch")
run = jax.shard_map(
    lambda root: t.tree_of(root=root), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
)
t.assert_same_trees(jax.jit(run)(root), alone)

# And where jit divides the batch by itself: without a word between the devices.
spread = jax.device_put(root, jax.sharding.NamedSharding(mesh, spec))
rules = (None, t.PuctRule(), t.PuctRule(scaling="tree"))
for name, number in [("cpp", 0), ("cpp", 1), ("linear", 0), ("linear", 2)]:
    run = t.compiled(name, rules[number])
    program = run.lower(spread, 0).compile()
    tree = program(spread, 0)
    assert tree.node_values.sharding.spec == spec
    t.assert_same_trees(tree, run(root, 0))
    text = program.as_text()
    assert not any(name in text for name in ("all-gather", "all-reduce", "all-to-all", "permute"))
# Five rows do not divide by two: every device has them all.
odd = jax.tree.map(lambda x: x[:5], root)
tree = jax.jit(lambda r: t.tree_of(root=jax.tree.map(lambda x: x[:5], r)))(spread)
t.assert_same_trees(tree, t.compiled("linear", None)(odd, 0))

# Members of a vmap, each with the tables of a model that is asked inside of the kernel.
tables = jax.tree.map(lambda *x: jax.numpy.stack(x), *map(r.random_tables, range(4)))
run = jax.jit(jax.vmap(lambda t: r.tree_of(t, r.RULES[2])))
tree = run(jax.device_put(tables, jax.sharding.NamedSharding(mesh, spec)))
assert tree.node_values.sharding.spec == spec
r.assert_equal_trees(tree, run(tables))
"""


def test_a_batch_spread_over_devices():
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", SPREAD],
        cwd=Path(__file__).parent,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("rule", [None, PuctRule()])
def test_rows_do_not_influence_each_other(rule, name):
    root = NETWORK.root(WEIGHTS, jax.random.key(4), 4)
    other = jax.tree.map(lambda x: x.at[1:].multiply(-3.0), root)
    run = compiled(name, rule)
    first = [jax.tree.map(lambda x: x[0], run(r, 0)) for r in (root, other)]
    assert_same_trees(*first)


@pytest.mark.parametrize("rule", [None, PuctRule()])
def test_extreme_logits_and_values_stay_finite(rule):
    root = NETWORK.root(WEIGHTS, jax.random.key(5), 4)
    extremes = jnp.array([[3e38, -3e38, 0.0], [-3e38] * 3, [80.0, -80.0, 80.0], [0.0] * 3])
    root = root.replace(prior_logits=extremes, value=jnp.array([1e30, -1e30, 0.0, 1e-40]))
    reference = compiled("mctx", rule)(root, 0)
    for name in ENGINES:
        tree = compiled(name, rule)(root, 0)
        assert all(jnp.isfinite(x).all() for x in (tree.node_values, tree.children_values))
        np.testing.assert_array_equal(tree.children_visits, reference.children_visits)


def test_any_function_can_be_a_rule():
    """One that reads what mctx's own do not: the key, the depth, the embedding and the parent."""

    def rule(rng_key, tree, node_index, depth=0):
        noise = jax.random.uniform(rng_key, (tree.num_actions,))
        scores = tree.qvalues(node_index) + noise + tree.embeddings[node_index][:3] * depth
        scores += 0.1 * tree.parents[node_index] - tree.children_visits[node_index]
        return jnp.argmax(scores).astype(jnp.int32)

    trees = [jax.jit(lambda s=s: tree_of(s, rule))() for s in (engine.search, mctx.search)]
    assert_same_trees(*trees)


def test_a_rule_that_one_kernel_has_no_code_for_still_works():
    def rule(rng_key, tree, node_index, depth=0):
        del rng_key, depth
        order = jnp.argsort(
            tree.children_visits[node_index] - tree.children_prior_logits[node_index]
        )
        return jnp.zeros(3).at[order].set(jnp.arange(3.0)).argmin().astype(jnp.int32)

    trees = [jax.jit(lambda s=s: tree_of(s, rule))() for s in (engine.search, mctx.search)]
    assert_same_trees(*trees)


def test_the_embedding_may_be_any_tree_of_arrays():
    def recurrent_fn(weights, rng_key, action, embedding):
        output, latent = NETWORK.recurrent_fn(weights, rng_key, action, embedding["latent"])
        steps = embedding["more"][0] + 1
        return output, {"latent": latent, "more": (steps, embedding["more"][1])}

    def run(search):
        root = NETWORK.root(WEIGHTS, jax.random.key(6), 4)
        image = jnp.arange(4 * 2 * 3 * 5, dtype=jnp.uint8).reshape(4, 2, 3, 5)
        embedding = {"latent": root.embedding, "more": (jnp.zeros(4, jnp.int32), image)}
        rule = ImprovedPolicyRule(CompletedQValues())
        return search(
            WEIGHTS,
            jax.random.key(7),
            root=root.replace(embedding=embedding),
            recurrent_fn=recurrent_fn,
            root_action_selection_fn=rule,
            interior_action_selection_fn=rule,
            num_simulations=9,
        )

    trees = [jax.jit(functools.partial(run, search))() for search in (engine.search, mctx.search)]
    assert_same_trees(*trees)
    # The number of steps is the depth of the node.
    depth = np.asarray(trees[0].embeddings["more"][0])
    parents = np.asarray(trees[0].parents)
    assert (depth[:, 1:] == np.take_along_axis(depth, parents[:, 1:], 1) + 1).all()


@pytest.mark.parametrize("max_depth", [None, 2])
def test_there_may_be_no_embedding(max_depth):
    def recurrent_fn(weights, rng_key, action, embedding):
        del weights, rng_key
        value = jnp.sin(3.0 * action)
        step = mctx.RecurrentFnOutput(
            reward=value, discount=0.9 + 0 * value, prior_logits=jnp.zeros((4, 3)), value=value
        )
        return step, embedding

    network = types.SimpleNamespace(recurrent_fn=recurrent_fn)
    root = NETWORK.root(WEIGHTS, jax.random.key(6), 4).replace(embedding=())
    trees = [
        tree_of(search, PuctRule(), network=network, root=root, max_depth=max_depth)
        for search in (*ENGINES.values(), mctx.search)
    ]
    for tree in trees[:2]:
        assert_same_trees(tree, trees[2])


def test_bfloat16_agrees_with_mctx_where_rounding_lets_it():
    weights = NETWORK.init(jax.random.key(0), "bfloat16")
    tree, reference = (
        jax.jit(lambda s=s: tree_of(s, weights=weights, batch_size=16))()
        for s in (engine.search, mctx.search)
    )
    for ours, theirs in zip(jax.tree.leaves(tree), jax.tree.leaves(reference), strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    same = (tree.children_visits[:, 0] == reference.children_visits[:, 0]).all(axis=-1)
    assert same.mean() >= 0.75
    gap = jnp.abs(tree.node_values[:, 0] - reference.node_values[:, 0]).astype(jnp.float32)
    assert (gap[same] <= 0.02 * jnp.abs(reference.node_values[:, 0][same])).all()


def test_tree_wide_bounds_are_the_papers():
    """Against the pseudocode of MuZero: bounds of every Q-value that was ever backed up."""
    rule = PuctRule(scaling="tree")
    tree = jax.jit(lambda: tree_of(rule=rule, batch_size=3, num_simulations=20))()
    for row in range(3):
        visits = _paper_visits(rule, jax.tree.map(lambda x, r=row: np.asarray(x[r]), tree))
        np.testing.assert_array_equal(tree.children_visits[row, 0], visits)


def _paper_visits(rule, tree):
    """Plays the simulations again with dictionaries, reading only what the network said."""
    low, high = np.inf, -np.inf
    num_actions = tree.num_actions
    probs = np.asarray(jax.nn.softmax(tree.children_prior_logits))
    visits, total, count = {}, {0: float(tree.raw_values[0])}, {0: 1}
    for new in range(1, tree.num_simulations + 1):
        node, path = 0, []
        while True:
            scores = []
            for a in range(num_actions):
                n = visits.get((node, a), 0)
                pb_c = rule.pb_c_init + np.log((count[node] + rule.pb_c_base + 1) / rule.pb_c_base)
                score = np.sqrt(count[node]) * pb_c * probs[node, a] / (n + 1)
                if n:
                    child = tree.children_index[node, a]
                    q = tree.children_rewards[node, a] + tree.children_discounts[node, a] * (
                        total[child] / count[child]
                    )
                    score += (q - low) / max(high - low, 1e-8)
                scores.append(score)
            action = int(np.argmax(scores))
            path.append((node, action))
            if (node, action) not in visits:
                break
            node = tree.children_index[node, action]
        assert tree.children_index[node, action] == new
        value, total[new], count[new] = float(tree.raw_values[new]), float(tree.raw_values[new]), 1
        for node, action in reversed(path):
            child = tree.children_index[node, action]
            reward = tree.children_rewards[node, action]
            discount = tree.children_discounts[node, action]
            q = reward + discount * total[child] / count[child]
            low, high = min(low, q), max(high, q)
            value = reward + discount * value
            visits[node, action] = visits.get((node, action), 0) + 1
            total[node], count[node] = total[node] + value, count[node] + 1
    return [visits.get((0, a), 0) for a in range(num_actions)]


@each_engine
@pytest.mark.parametrize("rule", [None, PuctRule()])
def test_the_tree_is_neither_copied_nor_left_to_many_kernels(rule, search):
    """A copy of an array of nodes inside the simulations would make the cost grow with the tree."""
    batch_size, num_simulations = 5, 30
    run = jax.jit(
        lambda: tree_of(search, rule, batch_size=batch_size, num_simulations=num_simulations)
    )
    text = run.lower().compile().as_text()
    is_cpp = search is ENGINES["cpp"] and cpp_library.is_available()
    assert ('custom_call_target="muzero_search_' if is_cpp else "xla_cpu_small_call=") in text
    rows = batch_size * (num_simulations + 1)
    inner = text[: text.index("\nENTRY")]
    shapes = rf"(?:{rows}|{batch_size},{num_simulations + 1},)"
    # A number copied into all of an array is the array's first value.
    assert not re.findall(rf"\[{shapes}\S* copy\((?!%broadcast)", inner)


def test_golden_searches_notice_a_changed_mctx():
    """Decisions of all engines on one small batch, as mctx 0.0.71 made them."""
    golden = json.loads(GOLDEN.read_text())
    for name, rule in (("gumbel", None), ("puct", PuctRule())):
        for engine_name in (*ENGINES, "mctx"):
            tree = compiled(engine_name, rule)(root_of(0), 0)
            assert np.asarray(tree.children_visits[:, 0]).tolist() == golden[name]["root_visits"]
            parents = np.asarray(tree.parents, np.int32).tobytes()
            assert hashlib.sha256(parents).hexdigest() == golden[name]["parents_sha256"]
            np.testing.assert_allclose(
                tree.node_values[:, 0], golden[name]["root_values"], rtol=1e-5
            )
