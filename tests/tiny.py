"""Small parts that several tests share: configs, hand-made models, hand-made windows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from muzero_jax.agents.base import ActOutput, Agent, LearnOutput, Moment, Windows
from muzero_jax.agents.muzero.agent import make_muzero
from muzero_jax.agents.muzero.planning import SearchRecord
from muzero_jax.config import (
    ExperimentConfig,
    NetworkConfig,
    OptimizerConfig,
    ReplayConfig,
    SearchConfig,
    TargetConfig,
    TrainingConfig,
)
from muzero_jax.core.types import TimeStep, Transition
from muzero_jax.envs.base import EnvironmentSpec
from muzero_jax.maths.value_support import scalar_to_support
from muzero_jax.networks.model import MuZeroModel
from muzero_jax.replay.buffer import Batch, WindowSpec
from muzero_jax.training.loop import make_agent, make_train


def tiny_config(**sections) -> ExperimentConfig:
    """A config whose train chunk compiles in seconds; sections are dicts of overrides."""
    config = ExperimentConfig(
        network=NetworkConfig(kind="mlp", embedding_size=8, hidden_sizes=(8,), support_size=5),
        search=SearchConfig(num_simulations=4),
        replay=ReplayConfig(capacity=128, min_size=32, batch_size=8, ratio=1.0),
        target=TargetConfig(num_unroll_steps=2, td_steps=3),
        optimizer=OptimizerConfig(warmup_updates=2, learning_rate=1e-2),
        training=TrainingConfig(
            num_envs=4, rollout_length=4, iterations_per_chunk=4, num_env_steps=512
        ),
    )
    for name, overrides in sections.items():
        owner = config.learner if hasattr(config.learner, name) else config
        section = dataclasses.replace(getattr(owner, name), **overrides)
        config = dataclasses.replace(config, **{name: section})
    return config


def tiny_spec(**overrides) -> EnvironmentSpec:
    """A vector environment of three actions."""
    fields = {"observation_shape": (2,), "observation_dtype": "float32", "num_actions": 3}
    return EnvironmentSpec(name="tiny", **(fields | overrides))


@dataclasses.dataclass(frozen=True)
class Described:
    """What stands for an environment where an agent reads its description alone."""

    spec: EnvironmentSpec


def muzero_agent(config: ExperimentConfig, spec: EnvironmentSpec, model=None) -> Agent:
    """MuZero for environments of a description, with a model of its own or with one given."""
    return make_muzero(config.learner, Described(spec), config.sizes(), model)


def with_replay(agent: Agent, config: ExperimentConfig) -> Agent:
    """The agent, learning from a ring as a config describes it."""
    return dataclasses.replace(agent, data=Windows(agent.data.spec, config.replay))


def trained(env, config: ExperimentConfig, num_chunks: int = 1):
    """An agent of `config`, and its state after some chunks, in which nothing failed."""
    agent = make_agent(config, env)
    train = make_train(env, agent, config)
    state = jax.jit(train.init)(jax.random.key(0))
    chunk = jax.jit(train.train_chunk, donate_argnums=0)
    for _ in range(num_chunks):
        state, _ = chunk(state)
    assert state.first_failure.update == -1
    return agent, state.agent


def gradient_mean(optimizer):
    """Adam's running mean of the gradients, in the state of an optimiser."""
    return optax.tree.get(optimizer, "mu")


def moment_of(timestep: TimeStep) -> Moment:
    """The moment `[B, ...]` of an agent without memory, in the first step of its episode."""
    return Moment(timestep, (), jnp.zeros(timestep.to_play.shape, jnp.int32), None)


def logits_of(x, support_size: int = 20):
    """Logits whose scalar is `x`; differentiable, and exact to about 1e-5."""
    return jnp.log(scalar_to_support(x, support_size) + 1e-9)


def counting_model(num_actions: int = 3, continuation: float = 1.0) -> MuZeroModel:
    """A model that can be followed with a pencil; observations are `[B, 2]`.

    The latent state is the first observed number; action `a` adds `10 (a + 1)` to it and pays
    `a + 1`. The value of a state is the state times `params["scale"]`, the prior is uniform. Every
    step has the same continuation.
    """

    def predict(params, embedding):
        return jnp.zeros((embedding.shape[0], num_actions)), logits_of(params["scale"] * embedding)

    def dynamics(params, embedding, action):
        del params
        amount = (action + 1).astype(jnp.float32)
        goes_on = jnp.full(embedding.shape[0], continuation)
        return embedding + 10.0 * amount, logits_of(amount), goes_on

    return MuZeroModel(
        init=lambda rng_key: {"scale": jnp.ones(())},
        represent=lambda params, observation: observation[:, 0],
        predict=predict,
        dynamics=dynamics,
    )


def make_batch(window: WindowSpec, batch_size: int, num_actions: int, seed: int = 0, **fields):
    """A random `Batch` as a replay would give it; `fields` replace those of the transitions.

    Observations hold `[10 x the row of the window, random]`; nothing ends unless `fields` say so.
    """
    rng = np.random.default_rng(seed)
    shape = (batch_size, window.length)
    rows = np.broadcast_to(
        np.array(window.observation_offsets), (batch_size, len(window.observation_offsets))
    )
    weights = rng.dirichlet(np.ones(num_actions), shape)
    transitions = Transition(
        observation=np.stack([10.0 * rows, rng.normal(size=rows.shape)], axis=-1),
        legal_action_mask=np.ones((*shape, num_actions), bool),
        to_play=np.zeros(shape, np.int32),
        action=rng.integers(0, num_actions, shape).astype(np.int32),
        reward=rng.normal(size=shape),
        discount=np.ones(shape),
        truncated=np.zeros(shape, bool),
        final_observation=None,
        record=SearchRecord(weights, rng.normal(size=shape)),
    ).replace(**fields)
    batch = Batch(transitions, np.ones(batch_size), np.arange(batch_size, dtype=np.int32))
    return jax.tree.map(_to_device, batch)


def _to_device(x):
    return jnp.asarray(x, jnp.float32 if np.issubdtype(x.dtype, np.floating) else x.dtype)


class ScriptedState(struct.PyTreeNode):
    """The least an agent's state must be."""

    hyperparameters: dict
    num_updates: jax.Array


def scripted_agent(action_fn, num_actions: int = 2, learn_fn=None, window=None, **fields) -> Agent:
    """An agent that plays `action_fn(rng_key, timestep, explore)`.

    Its priorities while acting are the actions; `learn_fn(state, rng_key, batch)` gives the metrics
    and the new priorities. The `fields` replace those of the agent.
    """

    def init(rng_key, hyperparameters):
        del rng_key
        return ScriptedState(
            jax.tree.map(jnp.float32, dict(hyperparameters)), jnp.zeros((), jnp.int32)
        )

    def acting(explore):
        def act(state, rng_key, moment):
            del state
            action = action_fn(rng_key, moment.timestep, explore).astype(jnp.int32)
            record = SearchRecord(jnp.zeros((*action.shape, num_actions)), jnp.zeros(action.shape))
            priority = action.astype(jnp.float32)
            return ActOutput(action=action, record=record, priority=priority, value=0.0 * priority)

        return act

    def learn(state, rng_key, batch):
        metrics, priorities = learn_fn(state, rng_key, batch)
        return LearnOutput(state.replace(num_updates=state.num_updates + 1), metrics, priorities)

    replay = tiny_config().replay
    parts = {
        "data": Windows(window or WindowSpec(1, (0,)), replay),
        "init": init,
        "act": acting(True),
        "greedy": {"scripted": acting(False)},
        "learn": learn,
    }
    return Agent(**(parts | fields))
