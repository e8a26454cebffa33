"""A run refuses an environment of one's own that breaks the protocol, before anything else."""

import sys
import time
from pathlib import Path

import pytest
import tiny_run

from muzero_jax.cli import main
from muzero_jax.envs import conformance
from muzero_jax.envs.errors import ConformanceError
from muzero_jax.runs import build as build_module
from muzero_jax.runs.build import build, load_run
from muzero_jax.runs.run_folder import write_config

BAD = """
import dataclasses
import jax.numpy as jnp
import numpy as np
from muzero_jax.envs.base import EnvironmentSpec, make_timestep

@dataclasses.dataclass(frozen=True)
class Bad:
    kind: str

    @property
    def spec(self):
        num_players = 2 if self.kind == "players" else 1
        return EnvironmentSpec("bad", (4,), "float32", 3, num_players)

    def timestep(self, t, reward=0.0):
        ts = make_timestep(jnp.ones(4) * t, num_actions=3, reward=reward, terminated=t >= 6)
        odd = {
            "dict": {"observation": {"a": jnp.zeros(4)}},
            "scalar": {"reward": ts.reward[0]},
            "shape": {"observation": jnp.ones(5)},
            "mask": {"legal_action_mask": jnp.ones(4, bool)},
            "discount": {"discount": ts.discount * 0.99},
            "stuck": {"legal_action_mask": jnp.full(3, t != 4)},
            "truncated": {"truncated": t == 3},
            "to_play": {"to_play": t % 2},
        }
        return ts.replace(**odd.get(self.kind, {}))

    def reset(self, rng_key):
        t = jnp.zeros((), jnp.int32)
        return t, self.timestep(t)

    def step(self, rng_key, t, action):
        if self.kind == "branch" and t > 3:
            return t, self.timestep(t)
        noise = float(np.random.rand()) if self.kind == "noise" else 1.0
        reward = jnp.where(t == 3, jnp.nan, noise) if self.kind == "no_number" else noise
        return t + 1, self.timestep(t + 1, reward)

def make(kind="good"):
    return Bad(kind)
"""

KINDS = {
    "dict": r"reset gives observation as an object of type dict, expected float32\[4\]",
    "scalar": r"reset gives reward as float32\[\], expected float32\[1\]",
    "shape": r"reset gives observation as float32\[5\], expected float32\[4\]",
    "mask": r"reset gives legal_action_mask as bool\[4\], expected bool\[3\]",
    "players": r"reset gives reward as float32\[1\], expected float32\[2\]",
    "noise": "step becomes another program each time that it is traced",
    "discount": "a discount is neither 0 nor 1",
    "stuck": "a state that is not terminal has no legal action",
    "truncated": "a step is truncated, but spec.can_truncate is False",
    "to_play": r"to_play is outside 0 \.\.\. 0",
    "no_number": "a reward is not finite",
    "branch": r"JAX cannot trace step: .*my_bad\.py, line \d+: TracerBoolConversionError: ",
}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    (tmp_path / "my_bad.py").write_text(BAD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("my_bad", None)


def config_of(kind):
    return tiny_run.tiny(environment__name=f"my_bad:make:kind={kind}", network__kind="mlp")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("kind", KINDS)
def test_build_refuses_each_kind_in_a_sentence(kind):
    start = time.process_time()
    with pytest.raises(ConformanceError, match=f"^my_bad:make:kind={kind}: {KINDS[kind]}") as info:
        build(config_of(kind))
    assert time.process_time() - start < 10
    assert "\n" not in str(info.value)


@pytest.mark.usefixtures("workplace")
def test_a_good_environment_is_built_and_checked_once_a_process(monkeypatch):
    build(config_of("good"))
    checked = []
    monkeypatch.setattr(conformance, "check_environment", lambda env, *_, **__: checked.append(env))
    build(config_of("good"))
    assert not checked
    # A module that was edited and imported again has another class.
    sys.modules.pop("my_bad")
    build(config_of("good"))
    assert len(checked) == 1


@pytest.mark.parametrize("name", ["catch", "gymnax:CartPole-v1"])
def test_environments_of_this_package_do_not_pay_for_the_check(name, monkeypatch):
    monkeypatch.setattr(build_module, "check_own_environment", None)
    build(tiny_run.tiny(environment__name=name, network__kind="mlp"))


def test_loading_a_run_checks_its_environment(workplace):
    (workplace / "run").mkdir()
    write_config(workplace / "run", config_of("stuck"))
    with pytest.raises(ConformanceError, match="no legal action"):
        load_run(workplace / "run")


@pytest.mark.parametrize(
    "command",
    [
        ["train", "catch"],
        ["sweep", "catch", "--set", "optimizer.learning_rate=0.1,0.2", "--seeds", "1"],
    ],
    ids=["train", "sweep"],
)
def test_commands_end_with_one_sentence_and_leave_nothing(workplace: Path, capsys, command):
    options = ["--out", "out", "--environment.name", "my_bad:make:kind=dict"]
    assert main([*command, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: my_bad:make:kind=dict: reset gives observation as")
    assert error.count("\n") == 1
    assert [path.name for path in workplace.iterdir() if path.name != "__pycache__"] == [
        "my_bad.py"
    ]
