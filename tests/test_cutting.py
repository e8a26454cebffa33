"""Rollouts that no episode outlives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import make_batch, scripted_agent, tiny_config, with_replay

from muzero_jax.config import EnvironmentConfig
from muzero_jax.envs.registry import make_environment
from muzero_jax.replay.buffer import WindowSpec
from muzero_jax.tabular.cutting import CutEpisodes, cut_at_end, mean_discounted_return
from muzero_jax.training.loop import make_train


def rollout(reward, discount, truncated):
    """Transitions `[T, num_envs]`, from rows of one environment each."""
    fields = {"reward": reward, "discount": discount, "truncated": truncated}
    fields = {name: np.array(rows).T for name, rows in fields.items()}
    length, num_envs = fields["reward"].shape
    batch = make_batch(WindowSpec(num_envs, tuple(range(num_envs))), length, 2, **fields)
    return batch.transitions


def test_returns_of_all_episodes_by_hand():
    transitions = rollout(
        reward=[[1.0, 2.0, 4.0, 8.0], [1.0, 1.0, 1.0, 1.0]],
        discount=[[1.0, 0.0, 1.0, 1.0], [1.0] * 4],
        truncated=[[False] * 4, [False, False, True, False]],
    )
    mean = mean_discounted_return(cut_at_end(transitions), 0.5)
    assert mean == pytest.approx(((1 + 1) + (4 + 4) + (1 + 0.5 + 0.25) + 1) / 4)


def test_only_what_goes_on_is_cut():
    transitions = rollout(
        [[0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 0.0]], [[False] * 2, [False] * 2]
    )
    np.testing.assert_array_equal(cut_at_end(transitions).truncated, [[False] * 2, [True, False]])


def test_the_loop_begins_every_rollout_anew():
    """A walk to the right is cut after three of its four steps, and so never arrives."""
    config = tiny_config(
        training={"rollout_length": 3, "num_envs": 2},
        target={"num_unroll_steps": 0, "td_steps": 1, "discount": 0.5},
        replay={"min_size": 4, "batch_size": 2},
    )
    config = dataclasses.replace(config, environment=EnvironmentConfig(name="line:length=4"))
    agent = scripted_agent(
        lambda rng_key, timestep, explore: jnp.zeros(timestep.to_play.shape),
        learn_fn=lambda state, rng_key, batch: ({"loss/none": jnp.zeros(())}, jnp.zeros(2)),
        window=WindowSpec(2, (0,)),
    )
    env = make_environment(config.environment.name)
    train = make_train(env, with_replay(agent, config), config, change_collect=CutEpisodes)
    state, metrics = jax.jit(train.train_chunk)(jax.jit(train.init)(jax.random.key(0)))
    assert metrics["episode/discounted_return"] == pytest.approx(-1.0 - 0.5 - 0.25)
    assert jnp.isnan(metrics["episode/return"]), "no episode was completed"
    stored = jax.tree.map(np.asarray, state.replay.transitions)
    rows = np.arange(len(stored.action)) % 3
    np.testing.assert_array_equal(stored.observation[:12].argmax(-1)[:, 0], rows[:12])
    np.testing.assert_array_equal(stored.truncated[:12, 0], rows[:12] == 2)
    np.testing.assert_array_equal(stored.final_observation[2, 0].argmax(), 3)
