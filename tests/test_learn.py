"""The updates of one iteration: which windows each one draws, with which key and priorities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from test_buffer import counters
from tiny import scripted_agent, tiny_config, with_replay

from muzero_jax.agents.base import LearnOutput, Rollout
from muzero_jax.replay.buffer import WindowSpec
from muzero_jax.training.learn import LearnFromReplay
from muzero_jax.training.shards import ONE_SHARD

NUM_ENVS, NUM_ROWS, NUM_UPDATES, BATCH, LENGTH = 4, 16, 3, 8, 2
# The last row is the start of no window of two steps.
NUM_STARTS = (NUM_ROWS - 1) * NUM_ENVS


class Notes(struct.PyTreeNode):
    """The state of an agent that notes down what each of its updates was given.

    Attributes:
      hyperparameters: the traced settings.
      num_updates: `[]` int32.
      index: `[U, BATCH]` where the windows of each batch start.
      weights: `[U, BATCH]` their importance weights.
      keys: `[U, 2]` the data of the key of each update.
    """

    hyperparameters: dict
    num_updates: jax.Array
    index: jax.Array
    weights: jax.Array
    keys: jax.Array


def start(hyperparameters=None, num_updates=2 * NUM_UPDATES):
    """Empty notes."""
    traced = {name: jnp.float32(x) for name, x in (hyperparameters or {}).items()}
    batches = jnp.zeros((num_updates, BATCH))
    keys = jnp.zeros((num_updates, 2), jnp.uint32)
    return Notes(traced, jnp.int32(0), batches.astype(jnp.int32), batches, keys)


def prefer_one(state, batch):
    """The first window of a batch gets all the priority, and the others none."""
    del state
    return jnp.where(batch.index == batch.index[0], 1e9, 0.0)


def sign(state, batch):
    """The priority is 10 and the number of the update."""
    return jnp.full(BATCH, 10.0 + state.num_updates)


@functools.cache
def compiled(priorities_fn, prioritised=True):
    """An empty learner, and its compiled iteration of three updates."""

    def learn(state, rng_key, batch):
        u = state.num_updates
        notes = state.replace(
            num_updates=u + 1,
            index=state.index.at[u].set(batch.index),
            weights=state.weights.at[u].set(batch.importance_weights),
            keys=state.keys.at[u].set(jax.random.key_data(rng_key)),
        )
        return LearnOutput(notes, {"loss/none": jnp.zeros(())}, priorities_fn(state, batch))

    config = tiny_config(replay={"prioritised": prioritised, "min_size": 1, "batch_size": BATCH})
    agent = scripted_agent(None, window=WindowSpec(LENGTH, (0,)), learn=learn)
    agent = with_replay(agent, config)
    loop = LearnFromReplay(agent, agent.data, NUM_ENVS, NUM_UPDATES, ONE_SHARD)
    example = jax.tree.map(lambda x: x[0, 0], counters(0, 1, 1))
    empty = loop.begin(start(), example)
    loop.shapes(empty, rollout())
    return loop, example, jax.jit(loop)


def rollout(priority=1.0, first_row=0):
    """Rows of counters, with the priorities of acting."""
    shape = (NUM_ROWS, NUM_ENVS)
    priority = jnp.broadcast_to(jnp.asarray(priority, jnp.float32), shape)
    return Rollout(counters(first_row, *shape), priority, timestep=None)


def learned(priorities_fn, *, prioritised=True, priority=1.0, num_iterations=1, **traced):
    """The learner after some iterations, each of which stores a rollout first."""
    loop, example, run = compiled(priorities_fn, prioritised)
    settings = {f"replay.{name}": value for name, value in traced.items()}
    learner = loop.begin(start(settings), example)
    for i in range(num_iterations):
        learner, _ = run(learner, jax.random.key(i), rollout(priority, i * NUM_ROWS))
    return jax.device_get(learner)


def test_an_update_draws_by_the_priorities_that_the_update_before_it_has_written():
    index = learned(prefer_one).agent.index
    preferred = index[0, 0]
    assert len(np.unique(index[0])) > 4  # All priorities were equal at first.
    np.testing.assert_array_equal(index[1:NUM_UPDATES], preferred)


@pytest.mark.parametrize("prioritised", [True, False])
def test_the_priorities_of_all_updates_of_an_iteration_are_written_one_after_the_other(prioritised):
    learner = learned(sign, prioritised=prioritised, num_iterations=2)
    expected = np.zeros(32 * NUM_ENVS)
    expected[: 2 * NUM_ROWS * NUM_ENVS] = 1.0  # Those of acting.
    for update, index in enumerate(learner.agent.index):
        # Two rollouts fill the ring, so that the second writes over none of the first.
        expected[index] = 10.0 + update if prioritised else 1.0
    np.testing.assert_array_equal(learner.replay.priorities.ravel(), expected)


@pytest.mark.parametrize("prioritised", [True, False])
def test_every_update_has_its_own_key_and_draws_its_own_batch(prioritised):
    notes = learned(sign, prioritised=prioritised, num_iterations=2, priority_exponent=0.0).agent
    assert notes.num_updates == 2 * NUM_UPDATES
    assert len(np.unique(notes.keys, axis=0)) == 2 * NUM_UPDATES
    assert len(np.unique(np.sort(notes.index, axis=1), axis=0)) == 2 * NUM_UPDATES


def test_the_traced_exponent_of_the_priorities_is_that_of_the_draw():
    heavy = np.ones((NUM_ROWS, NUM_ENVS))
    heavy[3, 2] = 1e9
    by_priority = learned(sign, priority=heavy, priority_exponent=1.0, importance_exponent=0.0)
    np.testing.assert_array_equal(by_priority.agent.index[0], 3 * NUM_ENVS + 2)
    uniform = learned(sign, priority=heavy, priority_exponent=0.0, importance_exponent=1.0)
    assert len(np.unique(uniform.agent.index[0])) > 4


def test_the_traced_exponent_of_the_importance_weights_is_that_of_the_batch():
    priority = np.ones((NUM_ROWS, NUM_ENVS))
    priority[:, 1] = 3.0
    weights = {}
    for exponent in (0.0, 0.5, 1.0):
        notes = learned(sign, priority=priority, importance_exponent=exponent).agent
        is_heavy = notes.index[0] % NUM_ENVS == 1
        assert 0 < is_heavy.sum() < BATCH
        np.testing.assert_allclose(notes.weights[0][~is_heavy], 1.0, rtol=1e-5)
        weights[exponent] = notes.weights[0][is_heavy][0]
    # (p_light / p_heavy) ** beta, but for the thousandth that is added to every priority.
    np.testing.assert_allclose(list(weights.values()), [1.0, 3**-0.5, 1 / 3], rtol=1e-3)
