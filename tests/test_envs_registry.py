import subprocess
import sys
import textwrap

import jax
import pytest

from muzero_jax.core.errors import ConfigError
from muzero_jax.envs import registry
from muzero_jax.envs.catch import Catch
from muzero_jax.envs.errors import EnvironmentCreationError, UnknownEnvironmentError
from muzero_jax.envs.gymnax_adapter import GYMNAX_NAMES
from muzero_jax.envs.pgx_adapter import PGX_NAMES
from muzero_jax.envs.registry import (
    list_environments,
    make_environment,
)


def test_built_in_names_make_environments_of_that_name():
    for name in list_environments()["built-in"]:
        assert make_environment(name).spec.name == name


def test_options_reach_the_factory():
    assert make_environment("catch", rows=6, columns=3) == Catch(rows=6, columns=3)


@pytest.mark.parametrize(
    ("name", "full_name"),
    [
        ("CartPole-v1", "gymnax:CartPole-v1"),
        ("gymnax:CartPole-v1", "gymnax:CartPole-v1"),
        ("connect_four", "pgx:connect_four"),
        ("pgx:tic_tac_toe", "pgx:tic_tac_toe"),
        ("tic_tac_toe", "tic_tac_toe"),
    ],
)
def test_suite_names(name, full_name):
    spec = make_environment(name).spec
    assert spec.name == full_name
    assert make_environment(spec.name).spec == spec


def test_bare_names_are_unambiguous():
    assert not set(GYMNAX_NAMES) & set(PGX_NAMES)
    built_in = set(list_environments()["built-in"])
    assert not built_in & set(GYMNAX_NAMES)
    assert built_in & set(PGX_NAMES) == {"tic_tac_toe"}


def test_list_environments_by_suite():
    names = list_environments()
    assert list(names) == ["built-in", "gymnax", "pgx"]
    assert "catch" in names["built-in"]
    assert "CartPole-v1" in names["gymnax"] and "Pendulum-v1" not in names["gymnax"]
    assert "go_9x9" in names["pgx"]


def test_suites_that_are_not_installed_are_not_listed(monkeypatch):
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: None)
    assert list(list_environments()) == ["built-in"]


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("cach", "catch"),
        ("Cartpole-v1", "CartPole-v1"),
        ("breakout-minatar", "Breakout-MinAtar"),
        ("gymnax:CartPol-v1", "CartPole-v1"),
        ("pgx:conect_four", "connect_four"),
        ("probe_action", "probe_action_reward"),
    ],
)
def test_an_unknown_name_lists_close_matches(name, suggestion):
    with pytest.raises(UnknownEnvironmentError, match=f"{name}'; did you mean .*{suggestion}"):
        make_environment(name)


def test_an_unknown_name_like_no_other():
    with pytest.raises(UnknownEnvironmentError, match="`muzero list` names them all"):
        make_environment("xyzzy")
    assert issubclass(UnknownEnvironmentError, ValueError)


def test_an_option_that_is_not_taken():
    with pytest.raises(EnvironmentCreationError, match=r"rowz.*; it takes: rows, columns\."):
        make_environment("catch", rowz=3)
    with pytest.raises(EnvironmentCreationError, match=r"size.*; it takes: max_steps\."):
        make_environment("pgx:connect_four", size=3)
    with pytest.raises(EnvironmentCreationError, match=r"steps.*; it takes: none\."):
        make_environment("probe_delayed_reward:steps=3")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("catch:rows", "catch:rows: 'rows' is no option; an option is written OPTION=VALUE"),
        ("catch:rows=", "'rows=' is no option"),
        ("catch:=3", "'=3' is no option"),
        ("catch:", "'' is no option"),
        ("=3", "'=3' is no option"),
        ("CartPole-v1:gravity", "'gravity' is no option"),
        ("gymnax:CartPole-v1:gravity", "'gravity' is no option"),
        ("my_maze:make:size", "'size' is no option"),
        ("catch:rows=3:rows=4", "catch:rows=3:rows=4: an option is given twice"),
        ("pgx:chess:name=x", "pgx:chess cannot be made: got an unexpected keyword argument 'name'"),
        ("catch:rows=1", r"catch cannot be made: .* found 1 x 5\.$"),
        ("catch:rows=abc", r"catch cannot be made: .* found 'abc' x 5\.$"),
        ("catch:rows=2.5", "found 2.5 x 5"),
        ("pgx:connect_four:max_steps=a", "pgx:connect_four cannot be made: .* found 'a'"),
        ("maze:time_limit=2.5", "maze cannot be made: .* found 2.5"),
    ],
)
def test_options_that_cannot_work_are_refused_in_a_sentence(name, message):
    with pytest.raises(EnvironmentCreationError, match=message):
        make_environment(name)


@pytest.mark.parametrize(
    ("name", "suite"),
    [
        ("gymnasium:CartPole-v1", "gymnasium"),
        ("gym:CartPole-v1", "gym"),
        ("brax:ant", "brax"),
        ("brax.envs:make", "brax"),
        ("jumanji:Snake-v1", "jumanji"),
        ("craftax", "craftax"),
        ("Craftax-Symbolic-v1", "craftax"),
        ("atari:Pong", "atari"),
        ("ALE/Pong-v5", "ale"),
        ("minigrid", "minigrid"),
        ("MiniGrid-Empty-8x8-v0", "minigrid"),
        ("xminigrid:XLand-MiniGrid-R1-9x9", "xminigrid"),
        ("dm_control:cartpole:task=swingup", "dm_control"),
        ("procgen", "procgen"),
        ("envpool:Pong-v5", "envpool"),
        ("navix:Navix-Empty-5x5-v0", "navix"),
        ("mujoco", "mujoco"),
    ],
)
def test_a_suite_that_is_not_supported_is_called_so(name, suite):
    with pytest.raises(
        EnvironmentCreationError,
        match=f"the suite {suite}, which is not supported, unlike gymnax and pgx;",
    ):
        make_environment(name)


def test_a_suite_that_is_not_supported_is_answered_with_the_supported_twin():
    with pytest.raises(EnvironmentCreationError, match=r"did you mean CartPole-v1\?$"):
        make_environment("gymnasium:CartPole-v1")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gymnax", "Unknown environment 'gymnax'; did you mean gymnax:"),
        ("pgx:", "Unknown environment 'pgx:'; did you mean pgx:"),
        ("Gymnax:CartPole-v1", r"did you mean gymnax:CartPole-v1\?"),
        ("PGX:chess:max_steps=3", r"did you mean pgx:chess\?"),
        ("CartPole", r"did you mean CartPole-v1\?"),
        ("CARTPOLE-V1", r"did you mean CartPole-v1\?"),
        ("Catch", r"did you mean catch\?"),
        ("gymnax:NoSuch", "Unknown environment 'gymnax:NoSuch'"),
    ],
)
def test_names_that_are_nearly_right(name, message):
    with pytest.raises(UnknownEnvironmentError, match=message):
        make_environment(name)


MAZE = """
import dataclasses
import jax.numpy as jnp
from muzero_jax.envs.base import EnvironmentSpec, make_timestep
from muzero_jax.envs.registry import make_environment

@dataclasses.dataclass
class Line:
    length: int = 3
    @property
    def spec(self):
        return EnvironmentSpec("line", (1,), "float32", 1, max_episode_steps=self.length)
    def reset(self, rng_key):
        return jnp.zeros(()), make_timestep(jnp.zeros(1), num_actions=1)
    def step(self, rng_key, state, action):
        timestep = make_timestep(state[None], num_actions=1, terminated=state + 1 >= self.length)
        return state + 1, timestep

def misspelt():
    return make_environment("cartpol")

class WrongSpec:
    spec = {"num_actions": 2}
    reset = Line.reset
    step = Line.step

a_number = 3
"""


@pytest.fixture
def custom_module(tmp_path, monkeypatch):
    (tmp_path / "my_line.py").write_text(textwrap.dedent(MAZE))
    # Words that something else is called by.
    for name in ("atari", "catch"):
        (tmp_path / f"{name}.py").write_text("from my_line import Line")
    (tmp_path / "my_broken.py").write_text("import a_module_that_is_missing\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("my_line", "my_broken", "atari", "catch"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("custom_module")
def test_a_custom_environment_from_the_working_directory():
    env = make_environment("my_line:Line", length=5)
    assert env.spec.max_episode_steps == 5
    _, timestep = jax.jit(env.reset)(jax.random.key(0))
    assert timestep.discount == 1.0


@pytest.mark.usefixtures("custom_module")
@pytest.mark.parametrize("name", ["atari:Line", "catch:Line"])
def test_a_module_of_ones_own_may_be_called_like_something_else(name):
    assert make_environment(name).spec.name == "line"


@pytest.mark.usefixtures("custom_module")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_lime:Line", "my_lime:Line cannot be made: there is no module 'my_lime'"),
        ("my_line:Lime", "the module 'my_line' has no environment 'Lime'"),
        ("my_line:a_number", "my_line:a_number cannot be made: TypeError: 3 is not a callable"),
        ("my_line:WrongSpec", "it has no member spec, an EnvironmentSpec"),
        ("my_line:dict", "the module 'my_line' has no environment 'dict'"),
        ("my_line:misspelt", "my_line:misspelt cannot be made: Unknown environment 'cartpol'; did"),
        ("my_broken:make", r"my_broken.py, line 1: .*a_module_that_is_missing"),
    ],
)
def test_what_is_wrong_with_a_custom_environment(name, message):
    with pytest.raises(ConfigError, match=message):
        make_environment(name)


def test_a_name_imports_no_suite_that_it_does_not_need():
    code = (
        "import sys; from muzero_jax.envs.registry import make_environment, list_environments;"
        "list_environments(); make_environment('catch'); print(*sys.modules);"
        "make_environment('CartPole-v1'); print(*sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    with_catch, with_cartpole = (set(line.split()) for line in result.stdout.splitlines())
    assert not {"gymnax", "pgx"} & with_catch
    assert "gymnax" in with_cartpole and not {"pgx", "seaborn", "pandas"} & with_cartpole
