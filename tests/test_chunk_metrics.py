"""A metric is averaged over a chunk and its shards, or maximised where its name says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import scripted_agent, tiny_config, with_replay

from muzero_jax.envs.catch import Catch
from muzero_jax.training import data_parallel
from muzero_jax.training.chunk_metrics import chunk_metrics, gather, nothing_gathered
from muzero_jax.training.data_parallel import make_layout, make_parallel_train
from muzero_jax.training.loop import make_train

NAMES = ("loss/total", "target/value_largest")


def test_nothing_gathered_changes_neither_sums_nor_largest_values():
    values = {name: jnp.array([-3.0, -1.0]) for name in NAMES}
    both = jax.tree.map(lambda *x: jnp.stack(x), nothing_gathered(NAMES), gather(values))
    found = chunk_metrics(gather(both), jnp.asarray(2))
    assert found == {"loss/total": -2.0, "target/value_largest": -1.0}


def test_without_updates_every_metric_is_nan():
    found = chunk_metrics(nothing_gathered(NAMES), jnp.asarray(0))
    assert all(np.isnan(x) for x in found.values())


def first_action(rng_key, timestep, explore):
    return jnp.zeros(timestep.observation.shape[0])


def learning(own_number):
    """Every metric is the number of the update, and more on a later shard."""

    def learn_fn(state, rng_key, batch):
        largest = state.num_updates + 100.0 * own_number()
        metrics = {"loss/total": 1.0 * state.num_updates, "target/value_largest": largest}
        return metrics, jnp.ones(batch.index.shape)

    return scripted_agent(first_action, num_actions=3, learn_fn=learn_fn)


def chunk_of(train):
    state = jax.jit(train.init)(jax.random.key(0))
    return jax.device_get(jax.jit(train.train_chunk)(state)[1])


def test_a_chunk_has_the_mean_or_the_largest_of_its_updates():
    config = tiny_config(replay={"min_size": 40})
    metrics = chunk_of(make_train(Catch(4, 3), with_replay(learning(lambda: 0.0), config), config))
    # The first two of four iterations do not learn; the others make updates 0 to 3.
    assert metrics["train/num_updates"] == 4
    assert metrics["loss/total"] == 1.5 and metrics["target/value_largest"] == 3.0


@pytest.mark.parametrize("fails_on", [None, 1])
def test_the_largest_is_that_of_all_shards_and_they_fail_together(fails_on, monkeypatch):
    config = tiny_config(training={"num_shards": 2})

    def own_number():
        shard = jax.lax.axis_index("shard").astype(jnp.float32)
        return shard if fails_on is None else jnp.where(shard == fails_on, jnp.inf, shard)

    def make_agent(config, env, average):
        return with_replay(learning(own_number), config)

    monkeypatch.setattr(data_parallel, "make_agent", make_agent)
    train = make_parallel_train(Catch(4, 3), config, make_layout(2, jax.devices()[:1]))
    state = jax.jit(train.init)(jax.random.key(0))
    state, metrics = jax.jit(train.train_chunk)(state)
    if fails_on is None:
        num_updates = int(metrics["train/num_updates"])
        assert metrics["target/value_largest"] == 100.0 + num_updates - 1
        assert state.first_failure.update == -1
    else:
        assert state.first_failure.update == 0
        assert train.learn_metric_names[int(state.first_failure.term)] == "target/value_largest"
