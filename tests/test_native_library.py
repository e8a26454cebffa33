"""The kernel in C++: which searches use it, and what happens where it cannot be compiled."""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.config import SearchConfig
from muzero_jax.profiling.toy_network import ToyNetwork
from muzero_jax.search import engine, native_library
from muzero_jax.search.gumbel_rules import CompletedQValues
from muzero_jax.search.policies import SearchNoise, make_search
from muzero_jax.search.root_policies import gumbel_policy

NETWORK = ToyNetwork(3, embedding_size=8)
NATIVE = SearchConfig(engine="native", num_simulations=5)
has_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="there is no C++ compiler"
)


@pytest.fixture
def other_machine(tmp_path, monkeypatch):
    """As where nothing was compiled yet; the compiler is what `$CXX` is set to."""
    monkeypatch.setenv("MUZERO_CACHE_DIR", str(tmp_path / "cache"))
    native_library._try_to_load.cache_clear()
    yield tmp_path / "cache"
    native_library._try_to_load.cache_clear()


def search(config, rng_key, dtype="float32"):
    weights = NETWORK.init(jax.random.key(0), dtype)
    root = NETWORK.root(weights, jax.random.key(1), 4)
    mask = jnp.ones((4, 3), bool)
    return make_search(config)(
        weights, rng_key, root, NETWORK.recurrent_fn, mask, SearchNoise.none()
    )


def program(config, rng_key=None, dtype="float32"):
    run = functools.partial(search, config, dtype=dtype)
    return jax.jit(run).lower(jax.random.key(2) if rng_key is None else rng_key).as_text()


@has_compiler
def test_what_there_is_code_for_runs_in_it():
    puct = SearchConfig(engine="native", num_simulations=5, policy="muzero")
    assert "muzero_search_gumbel" in program(NATIVE)
    assert "muzero_search_puct" in program(puct)
    # Gumbel MuZero's search draws nothing, whatever the key is.
    other_key = jax.random.key(2, impl="rbg")
    assert "muzero_search_gumbel" in program(NATIVE, other_key)
    for others in (
        program(puct, other_key),
        program(NATIVE, dtype="bfloat16"),
        program(SearchConfig(engine="linear", num_simulations=5)),
        program(SearchConfig(engine="linear", policy="muzero", q_normalisation="tree")),
    ):
        assert "muzero_search" not in others


def test_a_network_of_another_shape_is_refused():
    def recurrent_fn(*args):
        step, embedding = NETWORK.recurrent_fn(*args)
        return step.replace(prior_logits=jnp.zeros((4, 18))), embedding

    weights = NETWORK.init(jax.random.key(0))
    root = NETWORK.root(weights, jax.random.key(1), 4)
    with pytest.raises(AssertionError, match="18"):
        make_search(NATIVE)(
            weights,
            jax.random.key(2),
            root,
            recurrent_fn,
            jnp.ones((4, 3), bool),
            SearchNoise.none(),
        )


@pytest.mark.parametrize("engine_name", ["native", "linear"])
def test_a_traced_setting_of_a_rule_is_followed(engine_name):
    def visits(maxvisit_init):
        weights = NETWORK.init(jax.random.key(0))
        grow = functools.partial(
            engine.search,
            params=weights,
            recurrent_fn=NETWORK.recurrent_fn,
            native=engine_name == "native",
        )
        root = NETWORK.root(weights, jax.random.key(1), 4)
        found = gumbel_policy(
            grow,
            jax.random.key(2),
            root,
            jnp.zeros((4, 3), bool),
            num_simulations=20,
            completed=CompletedQValues(maxvisit_init=maxvisit_init),
            max_num_considered_actions=3,
            gumbel_scale=0.0,
        )
        return found.tree.children_visits

    settings = jnp.array([0.0, 500.0])
    for setting, together in zip(settings, jax.vmap(visits)(settings), strict=True):
        np.testing.assert_array_equal(together, jax.jit(visits)(setting))
        np.testing.assert_array_equal(together, visits(float(setting)))


@has_compiler
def test_the_library_is_compiled_once(other_machine):
    library = native_library.compiled_library()
    compiled = library.stat().st_mtime_ns
    assert native_library.compiled_library() == library and library.stat().st_mtime_ns == compiled
    assert list(other_machine.iterdir()) == [library]


@pytest.mark.parametrize(
    ("compiler", "message"),
    [("no-such-compiler", "none of ['no-such-compiler'] was found"), ("false", "false failed")],
)
def test_without_a_compiler_xla_searches_as_well(
    other_machine, monkeypatch, caplog, compiler, message
):
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(native_library.NativeUnavailableError):
        native_library.load()
    assert "muzero_search" not in program(NATIVE)
    found = jax.jit(functools.partial(search, NATIVE))(jax.random.key(2))
    linear = SearchConfig(engine="linear", num_simulations=5)
    expected = jax.jit(functools.partial(search, linear))(jax.random.key(2))
    np.testing.assert_array_equal(found.action_weights, expected.action_weights)
    (record,) = caplog.records
    assert message in record.getMessage()
    assert not other_machine.exists() or not list(other_machine.iterdir())


@has_compiler
def test_a_library_that_cannot_be_loaded_is_one_that_is_not_there(other_machine):
    native_library.compiled_library().write_bytes(b"not a library")
    assert not native_library.is_available()


@has_compiler
def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(other_machine):
    other_machine.write_text("a file, not a folder")
    assert native_library.compiled_library().is_file()
