"""The conformance check accepts what keeps the protocol and names each rule that is broken."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import pytest

from muzero_jax.envs.base import EnvironmentSpec, make_timestep
from muzero_jax.envs.conformance import ConformanceError, check_environment
from muzero_jax.envs.registry import list_environments, make_environment
from muzero_jax.envs.wrappers import TimeLimit

KEY = jax.random.key(0)

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


class WithSpec(Walk):
    """Breaks the description."""

    changes: dict = {}  # noqa: RUF012

    @property
    def spec(self):
        return dataclasses.replace(super().spec, **self.changes)


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


def test_the_walk_conforms():
    check_environment(Walk(), KEY)
    check_environment(Walk(num_players=1), KEY)
    check_environment(TimeLimit(Walk(), 2), KEY)


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
        (NotTraceable, "JAX cannot trace step: TracerBoolConversionError"),
        (HiddenGenerator, "the same key gives different results"),
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
