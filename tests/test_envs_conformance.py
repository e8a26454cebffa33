"""The conformance check accepts what keeps the protocol and names each rule that is broken."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.envs.base import Box, EnvironmentSpec, make_timestep
from muzero_jax.envs.conformance.check import (
    ConformanceError,
    check_environment,
    check_own_environment,
)
from muzero_jax.envs.conformance.traces import check_spec, describe_error
from muzero_jax.envs.registry import list_environments, make_environment
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
    "pgx:tic_tac_toe",
]


@pytest.mark.parametrize("name", list_environments()["built-in"])
def test_built_in_environments_conform(name):
    check_environment(make_environment(name), KEY)


@pytest.mark.parametrize("name", SUITE_ENVIRONMENTS)
def test_adapted_environments_conform(name):
    # Eager runs of the suites would compile hundreds of single operations.
    check_environment(make_environment(name), KEY, eager=False)


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


class RewardAtReset(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(reward=timestep.reward + jnp.array([0.5, -0.5]))


class FreshTerminal(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(discount=jnp.where(count == 0, 0.0, timestep.discount))


class FreshTruncated(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(truncated=count == 0)


class MovesTwice(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(to_play=(count == 3).astype(jnp.int32))


class FractionalDiscount(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(discount=jnp.where(count == 2, 0.99, timestep.discount))


class BothEnds(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(truncated=timestep.discount == 0.0)


class UndeclaredTruncation(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(truncated=count == 2)


class NoLegalAction(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(legal_action_mask=timestep.legal_action_mask & (count != 2))


class NotZeroSum(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(reward=jnp.abs(timestep.reward))


class PlayerOutOfRange(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(to_play=count)


class NeverEnds(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(discount=jnp.ones(()), reward=jnp.zeros(2))


class NanReward(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(reward=jnp.where(count == 2, jnp.nan, timestep.reward))


class NanObservation(WithTimestep):
    def change(self, timestep, count):
        return timestep.replace(observation=jnp.where(count == 2, jnp.nan, timestep.observation))


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


class EagerDiffers(Walk):
    """Behaves differently where its state is a concrete array."""

    def reset(self, rng_key):
        state, timestep = super().reset(rng_key)
        is_traced = isinstance(rng_key, jax.core.Tracer)
        return {**state, "noise": state["noise"] + (0.0 if is_traced else 1.0)}, timestep


class BatchDiffers(Walk):
    """A state that depends on what is beside it, by way of a batching rule."""

    def reset(self, rng_key):
        @jax.custom_batching.custom_vmap
        def shift(noise):
            return noise

        @shift.def_vmap
        def _(axis_size, in_batched, noise):
            del axis_size, in_batched
            return noise + noise.mean(), True

        state, _ = super().reset(rng_key)
        state = {**state, "noise": shift(state["noise"])}
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


def changed_spec(**changes):
    """The description of a walk with other fields; the actions are counted by `num_actions`."""
    return dataclasses.replace(Walk().spec, **{"action_space": None, **changes})


class WithSpec(Walk):
    """Breaks the description."""

    changes: dict = {}  # noqa: RUF012

    @property
    def spec(self):
        return changed_spec(**self.changes)


class NoActions(WithSpec):
    changes = {"num_actions": 0}  # noqa: RUF012


class ThreePlayers(WithSpec):
    changes = {"num_players": 3}  # noqa: RUF012


class FlatGrid(WithSpec):
    changes = {"observation_shape": (3, 3)}  # noqa: RUF012


class TooShortBound(WithSpec):
    changes = {"max_episode_steps": 3}  # noqa: RUF012


class ZeroBound(WithSpec):
    changes = {"max_episode_steps": 0}  # noqa: RUF012


@dataclasses.dataclass(frozen=True)
class Numbered(Walk):
    """A walk for one player whose observation is the number of its state."""

    num_players: int = 1
    dtype: str = "int32"

    @property
    def spec(self):
        return EnvironmentSpec("walk", (), self.dtype, 3)

    def timestep(self, state):
        return super().timestep(state).replace(observation=jnp.minimum(state["count"], 4))


def test_the_walk_conforms():
    check_environment(Walk(), KEY)
    check_environment(Walk(num_players=1), KEY)
    check_environment(TimeLimit(Walk(), 2), KEY)


def test_an_observation_may_be_the_number_of_a_state():
    check_environment(make_environment("maze:observation=index"), KEY, eager=False)
    check_environment(Numbered(), KEY, eager=False)
    with pytest.raises(ConformanceError, match="dtype is float32, not that of a number"):
        check_environment(Numbered(dtype="float32"), KEY)


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
    check_environment(Throw(), KEY, eager=False)
    check_own_environment(Throw(), "throw")
    with pytest.raises(ConformanceError, match="action_space is from 0 to -1"):
        check_environment(Throw(high=-1.0), KEY)
    with pytest.raises(ConformanceError, match=r"action_space has the shape \(0,\), not a tuple"):
        check_environment(Throw(shape=(0,)), KEY)
    with pytest.raises(ConformanceError, match="JAX cannot trace step"):
        check_environment(Throw(shape=()), KEY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 3}, "spec.name is 3, not text"),
        ({"num_actions": 3.0}, "spec.num_actions is 3.0, not a whole number"),
        ({"num_actions": True}, "spec.num_actions is True, not a whole number"),
        ({"num_players": 0}, "spec.num_players is 0, not at least 1"),
        ({"can_truncate": "no"}, "spec.can_truncate is 'no', not True or False"),
        ({"max_episode_steps": 4.5}, "spec.max_episode_steps is 4.5, not a whole number"),
        ({"observation_shape": [1]}, r"spec.observation_shape is \[1\], not a tuple"),
        ({"observation_shape": (0,)}, r"spec.observation_shape is \(0,\), not a tuple"),
        ({"observation_shape": 1}, "spec.observation_shape is 1, not a tuple"),
        ({"observation_dtype": "float33"}, "spec.observation_dtype is 'float33', not the NumPy"),
        ({"observation_dtype": "float"}, "spec.observation_dtype is 'float', not the NumPy name"),
        ({"observation_dtype": jnp.float32}, "spec.observation_dtype is <.*float32.*>, not the N"),
        ({"observation_dtype": "float64"}, "'float64', which JAX holds as 'float32' here"),
    ],
)
def test_a_wrong_description_is_named(changes, message):
    with pytest.raises(ConformanceError, match=message):
        check_spec(changed_spec(**changes))


def test_an_error_is_placed_where_the_users_code_made_it():
    def fail():
        jnp.zeros(3).reshape(4)

    try:
        fail()
    except TypeError as error:
        place = f"{__file__}, line {fail.__code__.co_firstlineno + 1}: TypeError: "
        assert describe_error(error).startswith(place)
    assert describe_error(ValueError("of nowhere\nand more")) == "ValueError: of nowhere."


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (RewardAtReset, "the reward at reset is not 0"),
        (FreshTerminal, "a fresh state is terminal"),
        (FreshTruncated, "a fresh state is truncated"),
        (FractionalDiscount, "a discount is neither 0 nor 1"),
        (BothEnds, "terminated and truncated at once"),
        (UndeclaredTruncation, "truncated, but spec.can_truncate is False"),
        (NoLegalAction, "no legal action"),
        (NotZeroSum, "do not sum to 0"),
        (PlayerOutOfRange, r"to_play is outside 0 \.\.\. 1"),
        (NeverEnds, "takes 64 steps or more, but spec.max_episode_steps is 4"),
        (NanReward, "a reward is not finite"),
        (NanObservation, "an observation is not finite"),
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
        (CallsTheHost, "the same key gives different results"),
        (FailsOnTheHost, "playing copies side by side fails: .*ZeroDivisionError"),
        (KeepsATracer, "playing copies side by side fails: UnexpectedTracerError"),
        (DictObservation, r"observation as an object of type dict, expected float32\[1\]"),
        (WrongMaskShape, r"legal_action_mask as bool\[4\], expected bool\[3\]"),
        (IntegerReward, r"reward as int32\[2\], expected float32\[2\]"),
        (DictTimeStep, "reset returns an object of type dict as its second value, not a TimeStep"),
        (SwappedPair, r"reset returns \(TimeStep, state\), not \(state, TimeStep\)"),
        (NoPair, r"reset returns an object of type TimeStep, not a pair \(state, TimeStep\)"),
        (TextInState, "JAX cannot trace reset: TypeError: .*str"),
        (NoKey, "JAX cannot trace reset: TypeError: .*argument"),
        (EagerDiffers, r"jit and no jit give different results \(at \[0\]\[0\]\['noise'\]\)"),
        (BatchDiffers, "vmap and a single run give different results"),
        (NoActions, "spec.num_actions is 0"),
        (MovesTwice, "a player moves twice in a row"),
        (ThreePlayers, "spec.num_players is 3"),
        (FlatGrid, r"spec.observation_shape is \(3, 3\)"),
        (TooShortBound, "takes 4 steps or more, but spec.max_episode_steps is 3"),
        (ZeroBound, "spec.max_episode_steps is 0"),
    ],
)
def test_each_broken_rule_is_named(broken, message):
    with pytest.raises(ConformanceError, match=f"^walk: .*{message}"):
        check_environment(broken(), KEY, num_steps=63)
