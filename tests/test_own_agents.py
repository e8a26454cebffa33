"""Mistakes in an agent of the user's own are one sentence before anything is compiled."""

import re
from pathlib import Path

import pytest
from tiny_run import TINY

from muzero_jax.config import ConfigError
from muzero_jax.runs.build import build
from muzero_jax.settings import apply_settings

GOOD = """
import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from muzero_jax.agents.base import ActOutput, Agent, LearnOutput, Rollouts, Unrolled, Windows
from muzero_jax.agents.definition import AgentDefinition
from muzero_jax.agents.network_state import NetworkState
from muzero_jax.config import OptimizerConfig, ReplayConfig
from muzero_jax.core.settings import traced
from muzero_jax.replay.buffer import WindowSpec


@dataclasses.dataclass(frozen=True)
class Settings:
    rate: float = traced(0.5)
    width: int = 4
    replay: ReplayConfig = ReplayConfig(capacity=640, min_size=64, batch_size=8, ratio=0.5)
    optimizer: OptimizerConfig = OptimizerConfig()
    window_length = 2


def make(settings, env, sizes):
    def init(rng_key, hyperparameters):
        return NetworkState.fresh({"w": jnp.zeros(3)}, hyperparameters, with_target=False)

    def act(state, rng_key, moment):
        return ActOutput(action=jnp.zeros(len(moment.episode_step), jnp.int32))

    def learn(state, rng_key, batch):
        return LearnOutput(state.descended(state.params, settings.optimizer, 9)[0], {})

    data = Windows(WindowSpec(2, (0, 1)), settings.replay)
    return Agent(data=data, init=init, act=act, greedy={"it": act}, learn=learn)


IT = AgentDefinition("it", Settings, make)
""".replace("width", "wide")

MISTAKES = [
    ("(frozen=True)", "", "must be a frozen dataclass"),
    ("wide: int = 4", "wide: int = None", "the default of wide of own:IT must be an integer"),
    ("wide: int = 4", "wide: dict = None", "the setting wide of own:IT must be a number, a text"),
    ("wide: int = 4", "wide: Literal[1, 2] = 1", "a Literal of texts"),
    ("wide: int = 4", "wide: int = dataclasses.field(default=4, init=False)", "init=False"),
    ("wide: int = 4", "samples: int = 4", "samples of own:IT has the name of an option"),
    ("rate: float = traced(0.5)", "rate: int = traced(1)", "is traced, and must be a float"),
    ("replay: ReplayConfig = ", "replay: bool = True\n    _: ReplayConfig = ", "be a ReplayConfig"),
    ("settings.replay)", "ReplayConfig(capacity=9_000))", "must be the field `replay: ReplayC"),
    ("    window_length = 2\n", "", "reads windows of 2 steps, but the window_length"),
    ('greedy={"it": act}', "greedy={}", "has no greedy way of acting"),
    (
        'greedy={"it": act}',
        'greedy={"it": act}, unaveraged=lambda state: state.params',
        "the state from unaveraged of own:IT must have the structure",
    ),
    ("return Agent(data", "return dict(data", "make of own:IT must return an Agent, found a dict"),
    ("data=data", "data=data.spec", "must be Windows or Rollouts, found a WindowSpec"),
    ("data=data", "data=Rollouts()", "learns from Rollouts, but its settings have a replay"),
    ("ActOutput(action=jnp", "(jnp", "act of own:IT must return an ActOutput"),
    (
        "jnp.int32)",
        "float)",
        r"an action for each environment, \[7\] of integers, found float32\[7",
    ),
    ("len(moment.episode_step)", "1", r"found int32\[1\]"),
    ("jnp.int32))", "jnp.int32), memory=jnp.ones(7))", "the memory of act of own:IT must have the"),
    ("return LearnOutput(", "return (", "learn of own:IT must return a LearnOutput, found a tuple"),
    ("9)[0], {})", '9)[0], {"x": jnp.ones(2)})', r"the metric x of learn .* one number, found \[2"),
    ('{"w": jnp.zeros(3)}', "1 + None", r"own.py, line \d+: TypeError"),
    ("state.descended(state.params", "state.descended(jnp.ones(1)", r"learn of own:IT cannot be"),
    ("learn=learn)", "learn=learn, unroll=lambda s, o, a: a)", "must return an Unrolled, found"),
    (
        "learn=learn)",
        "learn=learn, unroll=lambda s, o, a: Unrolled(jnp.zeros(a.shape), jnp.zeros(a.shape)))",
        r"values \[3, 7\] and rewards \[2, 7\] along .* found \[2, 7\] and \[2, 7\]",
    ),
]


@pytest.fixture
def build_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Builds a run whose agent is that of a module."""
    import sys

    monkeypatch.chdir(tmp_path)

    def build_module(code: str, **changes):
        monkeypatch.delitem(sys.modules, "own", raising=False)
        (tmp_path / "own.py").write_text(code)
        sys.path_importer_cache.clear()
        return build(apply_settings(TINY, {"agent": "own:IT", **changes}))

    return build_module


def test_a_good_agent_is_built(build_own):
    assert build_own(GOOD).agent.greedy


@pytest.mark.parametrize(("good", "bad", "told"), MISTAKES, ids=[bad for _, bad, _ in MISTAKES])
def test_a_mistake_is_one_sentence(build_own, good, bad, told):
    assert good in GOOD
    with pytest.raises(ConfigError) as refused:
        build_own(GOOD.replace(good, bad, 1))
    assert re.search(told, str(refused.value)), str(refused.value)
    assert "\n" not in str(refused.value)


def test_settings_that_refuse_a_value_by_an_error_of_their_own(build_own):
    check = "    def __post_init__(self):\n        assert self.wide < 9\n    window_length = 2\n"
    with pytest.raises(ConfigError, match=r"cannot be used: .*own.py, line \d+: AssertionError"):
        build_own(GOOD.replace("    window_length = 2\n", check), wide=9)
