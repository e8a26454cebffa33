"""The unit of reward: how it is found, that it does not change, and that nothing depends on it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import counting_model, make_batch, moment_of, muzero_agent, tiny_config, tiny_spec

from muzero_jax.agents.base import Rollout
from muzero_jax.agents.reward_unit import RewardUnit
from muzero_jax.config import traced_settings
from muzero_jax.core.types import Transition
from muzero_jax.envs.base import make_timestep

BEFORE, AFTER = jnp.int32(0), jnp.int32(1)


def rollout_of(reward, discount=None, truncated=None):
    """A rollout of `[T, B]` rewards."""
    reward = jnp.asarray(reward, jnp.float32)
    discount = jnp.ones_like(reward) if discount is None else jnp.asarray(discount, jnp.float32)
    truncated = jnp.zeros(reward.shape, bool) if truncated is None else jnp.asarray(truncated)
    steps = Transition(
        observation=None,
        legal_action_mask=None,
        to_play=None,
        action=None,
        reward=reward,
        discount=discount,
        truncated=truncated,
        final_observation=None,
        record=(),
    )
    return Rollout(steps, priority=jnp.ones_like(reward), timestep=None)


def unit_after(*rollouts, discount=0.5, num_updates=BEFORE):
    unit = RewardUnit.fixed()
    for rollout in rollouts:
        unit = unit.observed(rollout, discount, num_updates)
    return float(unit.size)


def test_the_unit_is_the_root_mean_square_of_the_sums_of_rewards():
    # From each step to the end: 3 + 0.5 * 4 = 5, and 4.
    assert unit_after(rollout_of([[3.0], [4.0]])) == pytest.approx(np.sqrt((25 + 16) / 2))
    # Two rollouts count together; sums of 0 do not count.
    two = unit_after(rollout_of([[3.0], [4.0]]), rollout_of([[0.0, 0.0], [0.0, 6.0]]))
    assert two == pytest.approx(np.sqrt((25 + 16 + 9 + 36) / 4))


def test_sums_end_where_episodes_end():
    ended = unit_after(rollout_of([[3.0], [4.0]], discount=[[0.0], [1.0]]))
    cut = unit_after(rollout_of([[3.0], [4.0]], truncated=[[True], [False]]))
    assert ended == cut == pytest.approx(np.sqrt((9 + 16) / 2))


def test_players_that_alternate_have_rewards_of_both_signs():
    # The loser's reward comes after the winner's move: 0 - 0.5 * 1, and 1.
    assert unit_after(rollout_of([[0.0], [1.0]]), discount=-0.5) == pytest.approx(
        np.sqrt((0.25 + 1) / 2)
    )


def test_the_unit_is_fixed_from_the_first_update_on():
    unit = RewardUnit.fixed().observed(rollout_of([[2.0]]), 0.5, BEFORE)
    assert unit.observed(rollout_of([[100.0]]), 0.5, AFTER).size == 2.0
    assert unit.observed(rollout_of([[4.0]]), 0.5, BEFORE).size == pytest.approx(np.sqrt(10))


def test_the_first_reward_decides_where_none_was_seen_before_learning():
    unit = RewardUnit.fixed().observed(rollout_of([[0.0, 0.0]]), 0.5, BEFORE)
    assert unit.size == 1.0
    unit = unit.observed(rollout_of([[0.0, 8.0]]), 0.5, AFTER)
    assert unit.size == 8.0
    assert unit.observed(rollout_of([[100.0, 1.0]]), 0.5, AFTER).size == 8.0


def test_rewards_that_are_not_finite_are_left_to_the_loss_to_refuse():
    assert unit_after(rollout_of([[jnp.nan, 3.0, jnp.inf]])) == 3.0


def test_shards_share_one_unit():
    def of_shard(reward):
        unit = RewardUnit.fixed()
        rollout = rollout_of(reward[:, None])
        return unit.observed(rollout, 0.5, BEFORE, lambda tree: jax.lax.pmean(tree, "shard")).size

    rewards = jnp.array([[3.0, 4.0], [0.0, 6.0]])
    together = jax.vmap(of_shard, axis_name="shard")(rewards)
    np.testing.assert_allclose(together, np.sqrt((25 + 16 + 9 + 36) / 4), rtol=1e-6)


def learned_with(scale):
    """An agent's state after three updates, and what it says, with rewards `scale` times as large.

    The state before the updates has seen one rollout.
    """
    config = tiny_config(target={"num_unroll_steps": 1, "td_steps": 1, "bootstrap": "network"})
    agent = muzero_agent(config, tiny_spec())
    state = agent.init(jax.random.key(0), traced_settings(config))
    state = agent.observe(state, rollout_of(scale * jnp.arange(6.0).reshape((3, 2))))
    batch = make_batch(agent.data.spec, 8, 3)
    steps = batch.transitions
    batch = batch.replace(transitions=steps.replace(reward=scale * steps.reward))
    learn = jax.jit(agent.learn)
    for seed in range(3):
        output = learn(state, jax.random.key(seed), batch)
        state = output.state
    timestep = jax.vmap(lambda o: make_timestep(o, num_actions=3))(jnp.eye(2))
    return state, output.metrics, agent.act_greedily(state, jax.random.key(0), moment_of(timestep))


def test_nothing_that_is_learned_depends_on_the_scale_of_the_rewards():
    """Powers of two are divided without rounding, so that parameters are equal bit for bit."""
    small, large = learned_with(2.0**-7), learned_with(2.0**14)
    jax.tree.map(np.testing.assert_array_equal, small[0].params, large[0].params)
    assert large[0].reward_unit.size == 2.0**21 * small[0].reward_unit.size
    np.testing.assert_array_equal(small[2].action, large[2].action)
    # What is reported is in the environment's rewards.
    np.testing.assert_allclose(large[2].value, 2.0**21 * small[2].value, rtol=1e-6)
    for name in ("target/value", "target/value_largest", "target/reward_largest"):
        np.testing.assert_allclose(large[1][name], 2.0**21 * small[1][name], rtol=1e-6)
    assert large[1]["loss/value"] == small[1]["loss/value"]


def test_a_unit_can_be_set_and_is_not_measured_then():
    config = tiny_config(target={"reward_unit": 4.0, "discount": 0.5})
    agent = muzero_agent(config, tiny_spec(), counting_model())
    assert agent.observe is None
    state = agent.init(jax.random.key(0), traced_settings(config))
    timestep = jax.vmap(lambda o: make_timestep(o, num_actions=3))(jnp.array([[7.0, 0.0]]))
    found = jax.jit(agent.act_greedily)(state, jax.random.key(0), moment_of(timestep))
    # The model counts 7 units.
    np.testing.assert_allclose(found.value, 28.0, rtol=1e-3)
    plan = jax.jit(agent.plan)(state, jax.random.key(0), moment_of(timestep))
    tree = plan.tree
    np.testing.assert_allclose(tree.raw_values[:, 0], 28.0, rtol=1e-3)
    unscaled = dataclasses.replace(
        config, target=dataclasses.replace(config.learner.target, reward_unit=1.0)
    )
    other = muzero_agent(unscaled, tiny_spec(), counting_model())
    state = other.init(jax.random.key(0), traced_settings(unscaled))
    reference = jax.jit(other.plan)(state, jax.random.key(0), moment_of(timestep))
    np.testing.assert_array_equal(tree.children_visits, reference.tree.children_visits)
    for name in ("node_values", "children_values", "children_rewards"):
        np.testing.assert_allclose(
            getattr(tree, name), 4.0 * getattr(reference.tree, name), rtol=1e-6
        )
    np.testing.assert_allclose(plan.search_value, 4.0 * reference.search_value, rtol=1e-6)
