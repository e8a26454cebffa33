"""The kernel in C++: which searches use it, and what happens where it cannot be compiled."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.config import SearchConfig
from muzero_jax.core import cache_folder
from muzero_jax.profiling.search_workloads import ToyNetwork
from muzero_jax.search import cpp_library, engine
from muzero_jax.search.gumbel import CompletedQValues, gumbel_policy
from muzero_jax.search.policies import SearchNoise, make_search

NETWORK = ToyNetwork(3, embedding_size=8)
CPP = SearchConfig(engine="cpp", num_simulations=5)
has_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="there is no C++ compiler"
)


@pytest.fixture
def other_machine(tmp_path, monkeypatch):
    """As where nothing was compiled yet; the compiler is what `$CXX` is set to."""
    monkeypatch.setenv("MUZERO_CACHE_DIR", str(tmp_path / "cache"))
    cpp_library._try_to_load.cache_clear()
    yield tmp_path / "cache"
    cpp_library._try_to_load.cache_clear()


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
    puct = SearchConfig(engine="cpp", num_simulations=5, policy="muzero")
    assert "muzero_search_gumbel" in program(CPP)
    assert "muzero_search_puct" in program(puct)
    # Gumbel MuZero's search draws nothing, whatever the key is.
    other_key = jax.random.key(2, impl="rbg")
    assert "muzero_search_gumbel" in program(CPP, other_key)
    for others in (
        program(puct, other_key),
        program(CPP, dtype="bfloat16"),
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
        make_search(CPP)(
            weights,
            jax.random.key(2),
            root,
            recurrent_fn,
            jnp.ones((4, 3), bool),
            SearchNoise.none(),
        )


@pytest.mark.parametrize("engine_name", ["cpp", "linear"])
def test_a_traced_setting_of_a_rule_is_followed(engine_name):
    def visits(maxvisit_init):
        weights = NETWORK.init(jax.random.key(0))
        grow = functools.partial(
            engine.search,
            params=weights,
            recurrent_fn=NETWORK.recurrent_fn,
            cpp=engine_name == "cpp",
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

    settings, alone = jnp.array([0.0, 500.0]), jax.jit(visits)
    together = jax.jit(jax.vmap(visits))(settings)
    for setting, visited in zip(settings, together, strict=True):
        np.testing.assert_array_equal(visited, alone(setting))
        untraced = jax.jit(functools.partial(visits, float(setting)))
        np.testing.assert_array_equal(visited, untraced())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A library that was compiled in a folder of its own."""
    return cpp_library._library_in(tmp_path_factory.mktemp("compiled"))


@pytest.fixture
def library(compiled, tmp_path):
    """The compiled library, to be damaged."""
    return Path(shutil.copy2(compiled, tmp_path))


@has_compiler
def test_the_library_is_compiled_once(library):
    compiled = library.stat().st_mtime_ns
    assert cpp_library._library_in(library.parent) == library
    assert library.stat().st_mtime_ns == compiled
    assert list(library.parent.iterdir()) == [library]


@pytest.mark.parametrize(
    ("compiler", "message"),
    [("no-such-compiler", "none of ['no-such-compiler'] was found"), ("false", "false failed")],
)
def test_without_a_compiler_xla_searches_as_well(
    other_machine, monkeypatch, caplog, compiler, message
):
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(cpp_library.CppUnavailableError):
        cpp_library.load()
    assert "muzero_search" not in program(CPP)
    found = jax.jit(functools.partial(search, CPP))(jax.random.key(2))
    linear = SearchConfig(engine="linear", num_simulations=5)
    expected = jax.jit(functools.partial(search, linear))(jax.random.key(2))
    np.testing.assert_array_equal(found.action_weights, expected.action_weights)
    (record,) = caplog.records
    assert message in record.getMessage()
    assert not other_machine.exists() or not list(other_machine.iterdir())


def cut_short(library, monkeypatch):
    library.write_bytes(library.read_bytes()[:5000])


def empty(library, monkeypatch):
    library.write_bytes(b"")


def altered(library, monkeypatch):
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    library.write_bytes(content)


def writable_for_others(library, monkeypatch):
    library.chmod(0o757)


def a_link(library, monkeypatch):
    library.rename(library.with_suffix(".elsewhere"))
    library.symlink_to(library.with_suffix(".elsewhere"))


def of_another_user(library, monkeypatch):
    owner = library.stat().st_uid
    monkeypatch.setattr(cache_folder, "_trusted_users", lambda: {owner + 1})


@has_compiler
@pytest.mark.parametrize(
    "damage", [cut_short, empty, altered, writable_for_others, a_link, of_another_user]
)
def test_a_library_that_is_not_the_one_that_was_written_is_made_again(library, monkeypatch, damage):
    content = library.read_bytes()
    compile_ = cpp_library._compile
    damage(library, monkeypatch)
    calls = []

    def copy(compiler, result):
        """As the compiler, but at once."""
        calls.append(compiler)
        result.write_bytes(content)

    monkeypatch.setattr(cpp_library, "_compile", copy)
    again = cpp_library._library_in(library.parent)
    monkeypatch.setattr(cpp_library, "_compile", compile_)
    assert len(calls) == 1
    assert again.read_bytes() == content and again.stat().st_mode & 0o777 == 0o755
    assert not again.is_symlink()


@has_compiler
@pytest.mark.slow
def test_a_library_that_is_cut_short_ends_no_process(compiled, tmp_path):
    library = tmp_path / "cache" / compiled.name
    library.parent.mkdir()
    library.write_bytes(compiled.read_bytes()[:5000])
    program = "from muzero_jax.search import cpp_library as n; assert n.is_available()"
    environment = {**os.environ, "MUZERO_CACHE_DIR": str(library.parent)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=200)
    assert library.stat().st_size == compiled.stat().st_size


def test_where_the_cache_is_no_place_for_a_library_it_goes_with_the_process(
    other_machine, monkeypatch
):
    tried = []

    def load(path):
        tried.append(Path(path))
        if len(tried) == 1:
            raise OSError("failed to map segment")  # As on a disk that no program may be run from.

    monkeypatch.setattr(cpp_library, "_library_in", lambda folder: folder)
    monkeypatch.setattr(cpp_library.ctypes, "CDLL", load)
    monkeypatch.setattr(cpp_library, "_register", lambda library: None)
    cpp_library.load()
    assert tried[0] == other_machine and len(tried) == 2
    other_machine.rmdir()
    other_machine.write_text("a file, not a folder", encoding="utf-8")
    cache_folder._usable_folder.cache_clear()
    assert list(cpp_library._folders()) == [tried[1]]
