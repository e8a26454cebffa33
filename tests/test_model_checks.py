"""A network of the user's own that cannot work is refused in one sentence before anything runs."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx
from tiny import counting_model, muzero_agent, tiny_config, tiny_spec

from muzero_jax.config import ConfigError
from muzero_jax.networks.factory import model_from_linen, model_from_nnx

OBSERVATION = jax.ShapeDtypeStruct((2,), jnp.float32)
NUM_ACTIONS, NUM_BINS = 3, 11


class Net(nn.Module):
    """A whole linen network; a subclass spoils one part of it."""

    def setup(self):
        self.pi, self.v, self.r = (nn.Dense(n) for n in (NUM_ACTIONS, NUM_BINS, NUM_BINS))
        self.extra = self.make_extra()

    def make_extra(self):
        return lambda x: x

    def represent(self, observation):
        return self.extra(observation)

    def predict(self, embedding):
        return self.pi(embedding), self.v(embedding)

    def dynamics(self, embedding, action):
        return embedding, self.r(embedding), jnp.ones(len(embedding))

    def __call__(self, observation, action):
        embedding = self.represent(observation)
        self.dynamics(embedding, action)
        return self.predict(embedding)


def with_extra(make):
    return type("Spoilt", (Net,), {"make_extra": lambda self: make()})()


def agent_of(model):
    return muzero_agent(tiny_config(), tiny_spec(), model)


def test_a_whole_network_is_taken():
    assert agent_of(model_from_linen(Net(), OBSERVATION)) is not None


@pytest.mark.parametrize("use_running_average", [True, False])
def test_linen_running_averages_are_refused(use_running_average):
    module = with_extra(lambda: nn.BatchNorm(use_running_average=use_running_average))
    with pytest.raises(ConfigError, match=r"Spoilt .*batch_stats, in extra.*LayerNorm") as told:
        model_from_linen(module, OBSERVATION)
    assert "\n" not in str(told.value)


def test_linen_dropout_is_refused_where_it_is_random():
    module = with_extra(lambda: nn.Dropout(0.5, deterministic=False))
    with pytest.raises(ConfigError, match=r"cannot be traced: .*InvalidRngError") as told:
        agent_of(model_from_linen(module, OBSERVATION))
    assert "\n" not in str(told.value)
    agent_of(model_from_linen(with_extra(lambda: nn.Dropout(0.5, deterministic=True)), OBSERVATION))


class NnxNet(nnx.Module):
    """A whole nnx network around a part that may spoil it."""

    def __init__(self, rngs, make_extra):
        self.pi = nnx.Linear(2, NUM_ACTIONS, rngs=rngs)
        self.v = nnx.Linear(2, NUM_BINS, rngs=rngs)
        self.extra = make_extra(rngs)

    def represent(self, observation):
        return self.extra(observation)

    def predict(self, embedding):
        return self.pi(embedding), self.v(embedding)

    def dynamics(self, embedding, action):
        return embedding, self.v(embedding), jnp.ones(len(embedding))


class Scale(nnx.Module):
    """A number that is no parameter."""

    def __init__(self):
        self.scale = nnx.Variable(jnp.ones(()))

    def __call__(self, x):
        return x * self.scale.value


@pytest.mark.parametrize(
    "make_extra,told",
    [
        (lambda rngs: nnx.BatchNorm(2, rngs=rngs), "type BatchStat, in extra"),
        (
            lambda rngs: nnx.BatchNorm(2, use_running_average=True, rngs=rngs),
            "type BatchStat, in extra",
        ),
        (lambda rngs: nnx.Dropout(0.5, rngs=rngs), "type RngCount, in extra.rngs"),
        (lambda rngs: Scale(), "type Variable, in extra"),
    ],
)
def test_nnx_variables_that_are_no_parameters_are_refused(make_extra, told):
    with pytest.raises(ConfigError, match=rf"NnxNet .*{told}.*LayerNorm or GroupNorm"):
        model_from_nnx(lambda rngs: NnxNet(rngs, make_extra))


def test_nnx_parameters_of_layers_of_all_kinds_are_taken():
    def make_extra(rngs):
        return nnx.Sequential(nnx.LayerNorm(2, rngs=rngs), nnx.GroupNorm(2, 1, rngs=rngs))

    agent_of(model_from_nnx(lambda rngs: NnxNet(rngs, make_extra)))


def test_missing_methods_are_named():
    class Half(nn.Module):
        def represent(self, observation):
            return observation

        def __call__(self, observation, action):
            return observation

    with pytest.raises(ConfigError, match="Half has no method predict and no method dynamics"):
        model_from_linen(Half(), OBSERVATION)

    class HalfNnx(nnx.Module):
        def __init__(self, rngs):
            self.predict = nnx.Linear(2, 3, rngs=rngs)

    with pytest.raises(ConfigError, match="HalfNnx has no method represent and no method dyn"):
        model_from_nnx(HalfNnx)


def rest_of_dynamics(x):
    """Reward logits and continuation, as they should be."""
    return jnp.zeros((len(x), 41)), jnp.ones(len(x))


@pytest.mark.parametrize(
    "changes,told",
    [
        (
            {"predict": lambda p, x: (jnp.zeros((len(x), 2)), jnp.zeros((len(x), NUM_BINS)))},
            r"policy logits of predict must be \[B, 3\], found \[B, 2\]",
        ),
        (
            {"predict": lambda p, x: (jnp.zeros((len(x), 3)), jnp.zeros(len(x)))},
            r"value logits of predict must be \[B, an odd number .*\], found \[B\]",
        ),
        (
            {"predict": lambda p, x: (jnp.zeros((len(x), 3)), jnp.zeros((len(x), 10)))},
            r"value logits of predict must be \[B, an odd number .*\], found \[B, 10\]",
        ),
        (
            {"predict": lambda p, x: jnp.zeros((len(x), 3))},
            "must return the policy logits and the value logits, each an array, found array",
        ),
        (
            {"dynamics": lambda p, x, a: (x, jnp.zeros((len(x), NUM_BINS)), jnp.ones(len(x)))},
            r"reward logits of dynamics must be \[B, 41\], found \[B, 11\]",
        ),
        (
            {"dynamics": lambda p, x, a: (x[:, None], jnp.zeros((len(x), 41)), jnp.ones(len(x)))},
            r"embedding of dynamics must be \[B\], found \[B, 1\]",
        ),
        (
            {"dynamics": lambda p, x, a: (x.astype(jnp.bfloat16), *rest_of_dynamics(x))},
            "must have the dtype of that of represent, float32, found bfloat16",
        ),
        (
            {"dynamics": lambda p, x, a: (x, jnp.zeros((len(x), 41)))},
            "return the embedding and the reward logits and the continuation, .* found array, a",
        ),
        (
            {"dynamics": lambda p, x, a: (x, *rest_of_dynamics(x)[:1], jnp.ones((len(x), 1)))},
            r"continuation of dynamics must be \[B\], found \[B, 1\]",
        ),
        ({"represent": lambda p, o: o.sum()}, r"embedding of represent must be .*, found \[\]"),
        ({"represent": lambda p, o: (o, o)}, "the embedding, each an array, found array, array"),
        ({"init": lambda key: {"n": jnp.arange(3)}}, r"parameter \['n'\] .*, found int32"),
    ],
)
def test_wrong_outputs_are_told_with_both_shapes(changes, told):
    with pytest.raises(ConfigError, match=told) as refused:
        agent_of(dataclasses.replace(counting_model(), **changes))
    assert "\n" not in str(refused.value)


def test_what_cannot_be_traced_is_told_with_its_place():
    def represent(params, observation):
        if observation[0, 0] > 0:
            return observation
        return -observation

    line = represent.__code__.co_firstlineno + 1
    with pytest.raises(ConfigError, match="represent of the network cannot be traced") as told:
        agent_of(dataclasses.replace(counting_model(), represent=represent))
    assert f"traced: {Path(__file__)}, line {line}: TracerBool" in str(told.value)
    assert "\n" not in str(told.value) and told.value.__cause__ is not None


def test_a_linen_module_that_cannot_be_traced_is_told_with_its_place():
    module = with_extra(lambda: nn.Dense(-1))
    with pytest.raises(ConfigError, match=rf"Spoilt cannot be traced: .*{Path(__file__).name}"):
        model_from_linen(module, OBSERVATION)


def test_a_batch_is_told_from_as_many_actions():
    """Connect Four has seven actions: logits with the axes exchanged are not taken for right."""

    def predict(params, x):
        return jnp.zeros((7, len(x))), jnp.zeros((len(x), NUM_BINS))

    spec = tiny_spec(num_actions=7)
    model = dataclasses.replace(counting_model(), predict=predict)
    with pytest.raises(
        ConfigError, match=r"policy logits of predict must be \[B, 7\], found \[7, B"
    ):
        muzero_agent(tiny_config(), spec, model)
