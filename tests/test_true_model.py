"""Acting by the search of the environment itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from climbing import Climb, climber

from muzero_jax.agents.base import Moment
from muzero_jax.agents.muzero.true_model import TrueModel
from muzero_jax.agents.reward_unit import RewardUnit
from muzero_jax.config import EvaluationConfig, traced_settings
from muzero_jax.envs.registry import make_environment
from muzero_jax.envs.tic_tac_toe import TicTacToe
from muzero_jax.envs.wrappers import TimeLimit
from muzero_jax.search.policies import RootFnOutput
from muzero_jax.settings import apply_settings
from muzero_jax.tabular.presets import tabular
from muzero_jax.training.evaluation import Evaluate
from muzero_jax.training.loop import make_agent


def moments_of(env, action_lists):
    """The moments `[B, ...]` after the given actions."""
    found = []
    for actions in action_lists:
        state, timestep = env.reset(jax.random.key(0))
        for action in actions:
            state, timestep = env.step(jax.random.key(1), state, jnp.int32(action))
        found.append(Moment(timestep, (), jnp.int32(len(actions)), state))
    return jax.tree.map(lambda *x: jnp.stack(x), *found)


def act(agent, state, moment, way):
    return jax.jit(agent.greedy[way])(state, jax.random.key(0), moment)


@pytest.mark.parametrize("engine", ["cpp", "linear", "mctx"])
@pytest.mark.parametrize("policy", ["gumbel", "muzero"])
@pytest.mark.parametrize("num_players", [1, 2])
def test_it_is_the_search_of_a_perfect_model(engine, policy, num_players):
    """Also where the learned model that it replaces is wrong."""
    env = Climb(length=4, num_players=num_players)
    search = {"num_simulations": 12, "policy": policy, "engine": engine, "value_scale": 0.02}
    moment = moments_of(env, [[], [0], [1, 0], [1, 1, 0]])
    # These values and priors leave no ties, which rounding would break.
    untied = {"search": search, "scale": 0.37, "slant": 0.4}
    perfect = act(*climber(env, **untied), moment, "search")
    wrong = climber(env, **untied, drift=3.0, overpay=-2.0, knows_end=False)
    true = act(*wrong, moment, "true_model")
    np.testing.assert_array_equal(true.action, perfect.action)
    for name in ("action_weights", "search_value"):
        found, expected = getattr(true.record, name), getattr(perfect.record, name)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(true.value, perfect.value)
    learned = act(*wrong, moment, "search").record.search_value
    assert np.abs(learned - perfect.record.search_value).max() > 0.1


@pytest.mark.parametrize("last_step", [False, True])
def test_a_truncated_state_is_a_leaf_with_its_value(last_step):
    """However often it is visited: q(a) = a + 1 + 0.5 * V, and V = 0.5 * height."""
    env = TimeLimit(Climb(length=1000), max_steps=2)
    agent, state = climber(env, search={"num_simulations": 16, "value_scale": 0.01})
    output = act(agent, state, moments_of(env, [[0]] if last_step else [[]]), "true_model")
    amount = np.array([1.0, 2.0])
    if last_step:
        q = amount + 0.5 * 0.5 * (1.0 + amount)
        expected = (np.asarray(output.record.action_weights[0]) * q).sum()
        np.testing.assert_allclose(output.record.search_value[0], expected, rtol=1e-3)
    else:  # Two steps of at most 2, and then a value of at most 0.5 * 4.
        assert 2.0 < output.record.search_value[0] < 2.0 + 0.5 * (2.0 + 0.5 * 0.5 * 4.0) + 1e-3


def test_an_ended_state_is_absorbing_and_worth_nothing():
    env = Climb(length=1)
    agent, state = climber(env, search={"num_simulations": 16, "value_scale": 0.01})
    record = act(agent, state, moments_of(env, [[]]), "true_model").record
    expected = (np.asarray(record.action_weights[0]) * [1.0, 2.0]).sum()
    np.testing.assert_allclose(record.search_value[0], expected, rtol=1e-4)


def flat(params, observation):
    """Networks that know nothing: a uniform prior and the value 7."""
    size = len(observation)
    return RootFnOutput(prior_logits=jnp.zeros((size, 9)), value=jnp.full(size, 7.0), embedding=())


def test_what_is_illegal_below_the_root_is_not_preferred_and_players_alternate():
    env = TicTacToe()
    model = TrueModel(env, flat, discount=0.5, reward_unit=4.0)
    # The first player holds 0 and 1, the second 3 and 4; the first one moves.
    root = model.root((), moments_of(env, [[0, 3, 1, 4]]))
    step, node = model.recurrent_fn((), jax.random.key(0), jnp.array([8]), root.embedding)
    lowest = jnp.finfo(jnp.float32).min
    illegal = np.isin(np.arange(9), [0, 1, 3, 4, 8])
    np.testing.assert_array_equal(step.prior_logits[0], np.where(illegal, lowest, 0.0))
    assert (float(step.discount[0]), float(step.reward[0]), float(step.value[0])) == (
        -0.5,
        0.0,
        7.0,
    )
    won, end = model.recurrent_fn((), jax.random.key(0), jnp.array([5]), node)
    # The reward is that of the second player, who wins, in units of the networks.
    assert (float(won.reward[0]), float(won.discount[0]), float(won.value[0])) == (0.25, 0.0, 0.0)
    after, _ = model.recurrent_fn((), jax.random.key(0), jnp.array([6]), end)
    assert (float(after.reward[0]), float(after.discount[0]), float(after.value[0])) == (0, 0, 0)


def test_a_table_can_be_replaced_too():
    config = apply_settings(tabular("tiny", "line", "table_muzero"), {"search.num_simulations": 8})
    env = make_environment("line")
    agent = make_agent(config, env)
    state = agent.init(jax.random.key(0), traced_settings(config))
    settings = EvaluationConfig(num_episodes=2, final_num_episodes=2, num_envs=2)
    evaluate = Evaluate(env, agent, settings, act=agent.greedy["true_model"])
    assert np.isfinite(evaluate(state, jax.random.key(0), 2).scores).all()


def test_the_unit_of_reward_is_read_from_the_state():
    env = Climb(length=3)
    agent, state = climber(env)
    of_unit = state.replace(reward_unit=RewardUnit.fixed(10.0))
    observation, actions = jnp.array([[2.0, 0.0]]), jnp.array([[1], [0]])
    plain = agent.unroll(state, observation, actions)
    scaled = agent.unroll(of_unit, observation, actions)
    np.testing.assert_allclose(plain.value[:, 0], [1.0, 2.0, 2.5], rtol=1e-3)
    np.testing.assert_allclose(plain.reward[:, 0], [2.0, 1.0], rtol=1e-3)
    np.testing.assert_allclose(scaled.value, 10.0 * plain.value)
    np.testing.assert_allclose(scaled.reward, 10.0 * plain.reward)
