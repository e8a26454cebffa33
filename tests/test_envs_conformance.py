"""The conformance check accepts what keeps the protocol and names each rule that is broken."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.core.errors import ConfigError
from muzero_jax.envs.base import Box, EnvironmentSpec, make_timestep
from muzero_jax.envs.conformance import (
    ConformanceError,
    check_environment,
    check_own_environment,
    check_play,
    play_copies,
)
from muzero_jax.envs.registry import list_environments, make_environment
from muzero_jax.envs.traces import check_spec, check_traces
from muzero_jax.envs.wrappers import TimeLimit

KEY = jax.random.key(0)
GENERATOR = np.random.default_rng()

# One of each kind; every name of both suites was checked once when the adapters were written.
SUITE_ENVIRONMENTS = [
    "gymnax:Breakout-MinAtar",
    "gymnax:CartPole-v1",
    "gymnax:DeepSea-bsuite",
    "gymnax:DiscountingChain-bsuite",
    "gymnax:FrozenLake-misc",
    "gymnax:MetaMaze-misc",
    "pgx:2048",
    "pgx:connect_four",
    "pgx:kuhn_poker",
    "pgx:minatar-breakout",
]
# Finite processes are one class, of which two stand for all.
BUILT_INS = sorted(set(list_environments()["built-in"]) - {"line", "chain", "deep_sea"})


@pytest.mark.parametrize("name", [*BUILT_INS, *SUITE_ENVIRONMENTS])
def test_built_in_and_adapted_environments_conform(name):
    check_environment(make_environment(name), KEY)


@dataclasses.dataclass(frozen=True)
class Walk:
    """A two-player walk of four steps that keeps the protocol; subclasses break one rule each."""

    num_players: int = 2

    @property
    def spec(self):
        return EnvironmentSpec(
            "walk", (1,), "float32", 3, num_players=self.num_players, max_episode_steps=4
        )

    def reset(self, rng_key):
        state = {"count": jnp.zeros((), jnp.int32), "noise": jax.random.uniform(rng_key)}
        return state, self.timestep(state)

    def step(self, rng_key, state, action):
        del rng_key, action
        state = {**state, "count": state["count"] + 1}
        return state, self.timestep(state)

    def timestep(self, state):
        terminated = state["count"] >= 4
        return make_timestep(
            state["noise"][None],
            num_actions=3,
            reward=jnp.where(terminated, jnp.array([1.0, -1.0])[: self.num_players], 0.0),
            terminated=terminated,
            legal_action_mask=jnp.array([True, False, True]),
            to_play=state["count"] % self.num_players,
        )


class WithTimestep(Walk):
    """Breaks the time steps."""

    def change(self, timestep, count):
        raise NotImplementedError

    def timestep(self, state):
        return self.change(super().timestep(state), state["count"])


class WrongObservationDtype(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(observation=timestep.observation.astype(jnp.bfloat16))


class WrongRewardShape(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(reward=timestep.reward[0])


class StateChangesDtype(Walk):
    def step(self, rng_key, state, action):
        state, timestep = super().step(rng_key, state, action)
        return {**state, "count": state["count"].astype(jnp.float32)}, timestep


class StateChangesStructure(Walk):
    def step(self, rng_key, state, action):
        state, timestep = super().step(rng_key, state, action)
        return {**state, "more": state["count"]}, timestep


class NotTraceable(Walk):
    def step(self, rng_key, state, action):
        return super().step(rng_key, state, action if action > 0 else -action)


class HiddenGenerator(Walk):
    """Draws from a generator of its own, once for each trace."""

    draws = itertools.count()

    def reset(self, rng_key):
        state, _ = super().reset(rng_key)
        state = {**state, "noise": jnp.asarray(next(self.draws), jnp.float32)}
        return state, self.timestep(state)


class CallsTheHost(Walk):
    """Draws on the host while it runs, which no trace shows."""

    def reset(self, rng_key):
        state, _ = super().reset(rng_key)
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        noise = jax.pure_callback(
            lambda: np.float32(GENERATOR.random()), shape, vmap_method="sequential"
        )
        state = {**state, "noise": noise}
        return state, self.timestep(state)

    def step(self, rng_key, state, action):
        state, _ = super().step(rng_key, state, action)
        state = {**state, "noise": self.reset(rng_key)[0]["noise"]}
        return state, self.timestep(state)


class DrawsAtTheEnd(Walk):
    """Draws in a jitted function, for a reward that a short play would not show."""

    @functools.partial(jax.jit, static_argnums=0)
    def bonus(self, terminated):
        return jnp.where(terminated, GENERATOR.random(), 0.0)

    def step(self, rng_key, state, action):
        state, timestep = super().step(rng_key, state, action)
        bonus = self.bonus(timestep.last) * jnp.array([1.0, -1.0])
        return state, timestep.replace(reward=timestep.reward + bonus)


class CountsItsCalls(Walk):
    calls = itertools.count(1)

    def step(self, rng_key, state, action):
        state, timestep = super().step(rng_key, state, action)
        index = next(self.calls) % 3
        mask = jnp.ones(3, bool).at[index].set(False)
        return state, timestep.replace(legal_action_mask=mask)


class CountsInItsOutput(WithTimestep):
    calls = itertools.count()

    def change(self, timestep, count):
        return timestep.replace(to_play=jnp.int32(next(self.calls)))


class DrawsATable(WithTimestep):
    def change(self, timestep, count):
        shift = jnp.asarray(GENERATOR.random(8), jnp.float32)[count]
        return timestep.replace(observation=timestep.observation + shift)


class DrawsAnIndex(WithTimestep):
    calls = itertools.count()

    def change(self, timestep, count):
        start = next(self.calls) % 3
        cell = jax.lax.slice(jnp.arange(3.0), (start,), (start + 1,))
        return timestep.replace(observation=timestep.observation + cell)


class DictObservation(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(observation={"noise": timestep.observation})


class WrongMaskShape(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(legal_action_mask=jnp.ones(4, bool))


class IntegerReward(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(reward=timestep.reward.astype(jnp.int32))


class DictTimeStep(WithTimestep):
    def change(self, timestep, count):
        return {"observation": timestep.observation}


class SwappedPair(Walk):
    def reset(self, rng_key):
        return super().reset(rng_key)[::-1]


class NoPair(Walk):
    def reset(self, rng_key):
        return super().reset(rng_key)[1]


class TextInState(Walk):
    def reset(self, rng_key):
        state, timestep = super().reset(rng_key)
        return {**state, "name": "walk"}, timestep


class NoKey(Walk):
    def reset(self):
        return super().reset(KEY)


class NoStep:
    spec, reset, timestep = Walk().spec, Walk().reset, Walk().timestep


class KeepsATracer(Walk):
    kept: list = []  # noqa: RUF012

    def step(self, rng_key, state, action):
        state, timestep = super().step(rng_key, state, action)
        self.kept.append(state["count"])
        return {**state, "count": jnp.maximum(state["count"], self.kept[0])}, timestep


class FailsOnTheHost(Walk):
    def step(self, rng_key, state, action):
        jax.debug.callback(lambda: 1 / 0, ordered=True)
        return super().step(rng_key, state, action)


@dataclasses.dataclass(frozen=True)
class Numbered(Walk):
    """A walk for one player whose observation is the number of its state."""

    num_players: int = 1

    @property
    def spec(self):
        return EnvironmentSpec("walk", (), "int32", 3, max_episode_steps=4)

    def timestep(self, state):
        return super().timestep(state).replace(observation=jnp.minimum(state["count"], 4))


def test_an_observation_may_be_the_number_of_a_state():
    check_environment(TimeLimit(Numbered(), 2), KEY)


@dataclasses.dataclass(frozen=True)
class Throw:
    """One step, whose action is two numbers; they are paid."""

    shape: tuple[int, ...] = (2,)
    high: float = 1.0

    @property
    def spec(self):
        return EnvironmentSpec("throw", (1,), "float32", action_space=Box(self.shape, 0, self.high))

    def reset(self, rng_key):
        return jnp.zeros(()), make_timestep(jnp.zeros(1), num_actions=0)

    def step(self, rng_key, state, action):
        reward = action[0] + action[1]
        return state, make_timestep(jnp.ones(1), num_actions=0, reward=reward, terminated=True)


def test_actions_may_be_points_of_a_box():
    check_own_environment(Throw(), "throw")
    with pytest.raises(ConformanceError, match="action_space is from 0 to -1"):
        check_environment(Throw(high=-1.0), KEY)
    with pytest.raises(ConformanceError, match=r"action_space.shape is \(0,\), with a size"):
        check_environment(Throw(shape=(0,)), KEY)
    with pytest.raises(ConformanceError, match="JAX cannot trace step"):
        check_environment(Throw(shape=()), KEY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 3}, "spec.name must be a string, found 3"),
        ({"num_actions": 3.0}, "spec.num_actions must be an integer, found 3.0"),
        ({"num_actions": True}, "spec.num_actions must be an integer, found True"),
        ({"num_actions": 0}, "spec.num_actions must be at least 1, found 0"),
        ({"num_players": 0}, "spec.num_players must be at least 1, found 0"),
        ({"num_players": 3}, "spec.num_players must be between 1 and 2, found 3"),
        ({"can_truncate": "no"}, "spec.can_truncate must be true or false, found 'no'"),
        ({"max_episode_steps": 4.5}, "spec.max_episode_steps must be an integer, found 4.5"),
        ({"max_episode_steps": 0}, "spec.max_episode_steps must be at least 1, found 0"),
        ({"observation_shape": [1]}, r"spec.observation_shape must be a tuple, found \[1\]"),
        ({"observation_shape": (0,)}, r"spec.observation_shape is \(0,\), with a size"),
        ({"observation_shape": 1}, "spec.observation_shape must be a tuple, found 1"),
        ({"observation_shape": (3, 3)}, r"spec.observation_shape is \(3, 3\), neither a vector"),
        ({"observation_shape": ()}, "spec.observation_dtype is 'float32', none of int8, int16"),
        ({"observation_dtype": "float33"}, "spec.observation_dtype is 'float33', none of bool"),
        ({"observation_dtype": jnp.float32}, "spec.observation_dtype must be a string, found <"),
        ({"observation_dtype": "float64"}, "spec.observation_dtype is 'float64', none of bool"),
    ],
)
def test_a_wrong_description_is_named(changes, message):
    changed = dataclasses.replace(Walk().spec, **{"action_space": None, **changes})
    with pytest.raises(ConfigError, match=message):
        check_spec(changed)


def test_what_has_no_description_is_no_environment():
    with pytest.raises(ConfigError, match="it has no member spec, an EnvironmentSpec"):
        check_spec({"num_actions": 2})


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (WrongObservationDtype, r"reset gives observation as bfloat16\[1\], expected float32\[1\]"),
        (WrongRewardShape, r"reset gives reward as float32\[\], expected float32\[2\]"),
        (StateChangesDtype, r"step changes state\['count'\] from int32\[\] to float32\[\]"),
        (StateChangesStructure, r"step changes state\['more'\] from nothing to int32\[\]"),
        (NotTraceable, rf"JAX cannot trace step: {__file__}, line \d+: TracerBoolConversionError"),
        (HiddenGenerator, "reset becomes another program each time that it is traced"),
        (DrawsAtTheEnd, "step becomes another program each time that it is traced"),
        (CountsItsCalls, "step becomes another program each time that it is traced"),
        (CountsInItsOutput, "reset becomes another program each time that it is traced"),
        (DrawsATable, "reset becomes another program each time that it is traced"),
        (DrawsAnIndex, "reset becomes another program each time that it is traced"),
        (DictObservation, r"observation as an object of type dict, expected float32\[1\]"),
        (WrongMaskShape, r"legal_action_mask as bool\[4\], expected bool\[3\]"),
        (IntegerReward, r"reward as int32\[2\], expected float32\[2\]"),
        (DictTimeStep, "reset returns an object of type dict as its second value, not a TimeStep"),
        (SwappedPair, "reset returns an object of type dict as its second value, not a TimeStep"),
        (NoPair, r"reset returns an object of type TimeStep, not a pair \(state, TimeStep\)"),
        (TextInState, "JAX cannot trace reset: TypeError: .*str"),
        (NoKey, "JAX cannot trace reset: TypeError: .*argument"),
        (KeepsATracer, "JAX cannot trace step: .*Tracer"),
        (NoStep, "JAX cannot trace step: AttributeError: 'NoStep' object has no attribute 'step'"),
    ],
)
def test_what_traces_show_is_named(broken, message):
    with pytest.raises(ConfigError, match=message):
        check_traces(broken())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (CallsTheHost, "the same key gives different results"),
        (FailsOnTheHost, "playing copies side by side fails: .*ZeroDivisionError"),
    ],
)
def test_what_only_a_play_shows_is_named(broken, message):
    with pytest.raises(ConformanceError, match=f"^walk: .*{message}"):
        check_environment(broken(), KEY, num_steps=7)


@pytest.fixture(scope="module")
def played():
    """First time steps `[B]` and outcomes `[T, B]` of a walk, and how far each outcome is."""
    first, outcomes = play_copies(Walk(), KEY, 63)
    count = np.arange(63)[:, np.newaxis] % 4 + 1 + np.zeros((1, 4), int)
    return first, outcomes, count


def at(count, number, there, elsewhere):
    """`there` at one step of an episode, and `elsewhere` at the others."""
    is_there = (count == number).reshape(*count.shape, *[1] * (np.ndim(elsewhere) - count.ndim))
    return np.where(is_there, there, elsewhere)


FRESH = {
    "the reward at reset is not 0": {"reward": np.full((4, 2), [0.5, -0.5], np.float32)},
    "a fresh state is terminal": {"discount": np.zeros(4, np.float32)},
    "a fresh state is truncated": {"truncated": np.ones(4, bool)},
}
BROKEN = {
    "a discount is neither 0 nor 1": lambda t, n: {"discount": at(n, 2, 0.99, t.discount)},
    "a step is terminated and truncated at once": lambda t, n: {"truncated": n == 4},
    "a step is truncated, but spec.can_truncate is False": lambda t, n: {"truncated": n == 2},
    "no legal action": lambda t, n: {"legal_action_mask": at(n, 2, False, t.legal_action_mask)},
    "do not sum to 0": lambda t, n: {"reward": np.abs(t.reward)},
    r"to_play is outside 0 \.\.\. 1": lambda t, n: {"to_play": n},
    "a player moves twice in a row": lambda t, n: {"to_play": at(n, 3, 0, t.to_play)},
    "takes 64 steps or more, but spec.max_episode_steps is 4": lambda t, n: {
        "discount": np.ones_like(t.discount),
        "to_play": np.arange(1, 64)[:, np.newaxis] % 2 + np.zeros((1, 4), int),
    },
    "a reward is not finite": lambda t, n: {"reward": at(n, 2, np.nan, t.reward)},
    "an observation is not finite": lambda t, n: {"observation": at(n, 2, np.nan, t.observation)},
}


def test_a_play_that_keeps_the_rules(played):
    first, outcomes, count = played
    np.testing.assert_array_equal(outcomes.discount, count < 4)
    check_play(first, outcomes, Walk().spec)
    shorter = dataclasses.replace(Walk().spec, max_episode_steps=3)
    with pytest.raises(ConfigError, match=r"takes 4 steps or more, but .*max_episode_steps is 3"):
        check_play(first, outcomes, shorter)


@pytest.mark.parametrize("rule", [*FRESH, *BROKEN])
def test_each_broken_rule_is_named(played, rule):
    first, outcomes, count = played
    if rule in FRESH:
        first = first.replace(**FRESH[rule])
    else:
        outcomes = outcomes.replace(**BROKEN[rule](outcomes, count))
    with pytest.raises(ConfigError, match=rule):
        check_play(first, outcomes, Walk().spec)
