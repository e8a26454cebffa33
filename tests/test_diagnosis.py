"""The diagnosis of models whose errors are known by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from climbing import Climb, climber
from tiny import scripted_agent

from muzero_jax.agents.base import ActOutput
from muzero_jax.config import ConfigError, EvaluationConfig
from muzero_jax.envs.registry import make_environment
from muzero_jax.envs.wrappers import TimeLimit
from muzero_jax.tabular.presets import tabular
from muzero_jax.training.diagnosis import Diagnosis, DiagnosisSizes, TrueModelScore, discount_of
from muzero_jax.training.diagnosis_metrics import metrics_of, missing
from muzero_jax.training.evaluation import Evaluate
from muzero_jax.training.loop import make_agent, make_train

SIZES = DiagnosisSizes(num_envs=2, num_steps=10, num_states=64, num_depths=3)
ENDLESS = 1000


def diagnose(env, agent, state, sizes=SIZES):
    """The metrics, and the answers from which they are made."""
    diagnosis = Diagnosis(env, agent, sizes)
    answers = jax.device_get(jax.jit(diagnosis.answers)(state, jax.random.key(0)))
    return diagnosis.metrics(answers), answers


def errors_of(metrics, kind, way, num_depths=SIZES.num_depths):
    return [metrics[f"model/{kind}_error_at_depth_{k}_{way}"] for k in range(1, num_depths + 1)]


@pytest.mark.parametrize("num_players", [1, 2])
def test_a_perfect_model_has_no_error(num_players):
    """Ends and turns included."""
    env = Climb(length=4, num_players=num_players)
    metrics, _ = diagnose(env, *climber(env))
    for way in ("own", "random"):
        np.testing.assert_allclose(errors_of(metrics, "value", way), 0.0, atol=1e-3)
        np.testing.assert_allclose(errors_of(metrics, "reward", way), 0.0, atol=1e-3)
    assert metrics["model/value_spread"] > 0.1


def test_errors_are_those_that_a_model_makes_at_each_step():
    env = Climb(length=ENDLESS)
    metrics, _ = diagnose(env, *climber(env, scale=0.5, drift=0.4, overpay=0.1))
    for way in ("own", "random"):
        expected = [0.5 * 0.4 * k for k in (1, 2, 3)]
        np.testing.assert_allclose(errors_of(metrics, "value", way), expected, rtol=1e-2)
        np.testing.assert_allclose(errors_of(metrics, "reward", way), 0.1, rtol=2e-2)
    relative = metrics["model/value_error_at_depth_2_own_relative"]
    assert relative == pytest.approx(0.4 / metrics["model/value_spread"] * 0.5 * 2, rel=1e-2)
    # The agent takes the better action, which pays 2; half of the random ones do.
    assert metrics["model/reward_size_own"] == pytest.approx(2.0)
    assert 1.2 < metrics["model/reward_size_random"] < 1.8


def test_a_model_that_does_not_know_the_end_is_wrong_after_it():
    """The heights are 0, 2, (4, end); half of the drawn states are the first of an episode."""
    env, sizes = Climb(length=2), DiagnosisSizes(2, num_steps=5, num_states=64, num_depths=2)
    metrics, answers = diagnose(env, *climber(env, scale=1.0, knows_end=False), sizes)
    np.testing.assert_allclose(errors_of(metrics, "value", "own", 2), [2.0, 5.0], rtol=1e-2)
    np.testing.assert_allclose(errors_of(metrics, "reward", "own", 2), [0.0, 1.0], atol=1e-2)
    assert answers["own"]["value"]["known"].all()


def test_what_follows_a_time_limit_is_not_compared():
    env = TimeLimit(Climb(length=ENDLESS), max_steps=2)
    sizes = DiagnosisSizes(2, num_steps=5, num_states=64, num_depths=3)
    metrics, answers = diagnose(env, *climber(env, scale=1.0, knows_end=False), sizes)
    # Of the three rows that enough rows follow, two are the first of an episode.
    for way in ("own", "random"):
        known = answers[way]["value"]["known"].mean(axis=1)
        np.testing.assert_allclose(known, [1.0, 2 / 3, 0.0])
        np.testing.assert_allclose(errors_of(metrics, "value", way)[:2], 0.0, atol=1e-3)
        assert math.isnan(errors_of(metrics, "value", way)[2])


def test_values_are_compared_with_the_returns_of_greedy_play():
    """Steps of 2, discounted by a half; the value is the height: 0, 2, 4."""
    env, sizes = Climb(length=3), DiagnosisSizes(2, num_steps=6, num_states=64, num_depths=1)
    metrics, _ = diagnose(env, *climber(env, scale=1.0), sizes)
    returns, values = np.array([2 + 1 + 0.5, 2 + 1, 2]), np.array([0.0, 2.0, 4.0])
    expected = np.abs(returns - values).mean()
    assert metrics["model/value_error_at_depth_0_own"] == pytest.approx(expected, rel=1e-2)
    bias = (values - returns).mean()
    assert metrics["model/value_bias_at_depth_0_own"] == pytest.approx(bias, rel=1e-2)


def test_returns_that_the_record_does_not_show_are_not_compared():
    env = Climb(length=ENDLESS)
    _, answers = diagnose(env, *climber(env))
    # 0.5^5 is less than 0.05, 0.5^4 is not.
    np.testing.assert_array_equal(answers["returns"]["known"][:, 0], np.arange(10) < 6)
    metrics, _ = diagnose(env, *climber(env, discount=1.0))
    assert math.isnan(metrics["model/value_error_at_depth_0_own"])


def test_the_agent_is_watched_on_its_own_greedy_episodes():
    env = Climb(length=3)
    _, answers = diagnose(env, *climber(env, scale=1.0))
    np.testing.assert_allclose(answers["values"][:6, 0], [0, 2, 4, 0, 2, 4], rtol=1e-3, atol=1e-3)


def policy(prior, qvalue, tried, legal):
    return metrics_of(
        {
            "policy": {
                "prior": np.array(prior),
                "qvalue": np.array(qvalue),
                "tried": np.array(tried, bool),
                "legal": np.array(legal, bool),
            }
        }
    )


def test_preferences_that_no_q_value_supports():
    """States: Q-values that agree, ones that differ, one that was not tried, one action alone."""
    metrics = policy(
        prior=[[0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [1.0, 0.0, 0.0]],
        qvalue=[[1.0, 1.01, 77.0], [0.0, 9.0, 77.0], [2.0, 2.01, 50.0], [3.0, 0.0, 0.0]],
        tried=[[1, 1, 0], [1, 1, 0], [1, 1, 0], [1, 0, 0]],
        legal=[[1, 1, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]],
    )
    assert metrics["policy/q_agreement_share"] == pytest.approx(2 / 3)
    first = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    third = -(2 * 0.25 * math.log(0.25) + 0.5 * math.log(0.5))
    found = metrics["policy/prior_entropy_where_q_agrees"]
    assert found == pytest.approx((first + third) / 2)
    uniform = (math.log(2) + math.log(3)) / 2
    assert metrics["policy/uniform_entropy_where_q_agrees"] == pytest.approx(uniform)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_whether_q_values_agree_has_no_unit(factor):
    """The deviation of the Q-values is 1.58, of which a twentieth is 0.079."""
    qvalue = factor * np.array([[0.0, 0.07], [0.0, 0.09], [3.0, 4.0], [0.0, 0.0]])
    every = np.ones((4, 2), bool)
    metrics = policy(np.full((4, 2), 0.5), qvalue, every, every)
    assert np.std(qvalue) == pytest.approx(1.51 * factor, rel=0.1)
    assert metrics["policy/q_agreement_share"] == 0.5


def test_q_values_and_priors_are_read_at_the_root():
    env = Climb(length=1)
    search = {"num_simulations": 8}
    metrics, answers = diagnose(env, *climber(env, search=search))
    q = answers["policy"]["qvalue"][answers["policy"]["tried"].all(axis=1)]
    np.testing.assert_allclose(q, np.tile([1.0, 2.0], (len(q), 1)), rtol=1e-3)
    assert metrics["policy/q_agreement_share"] == 0.0
    assert math.isnan(metrics["policy/prior_entropy_where_q_agrees"])


def remembering_agent(first_action):
    """An agent that notes how many steps it has explored; greedily it takes action 0."""

    def explore(state, rng_key, moment):
        return ActOutput(action=first_action(moment.memory), memory=moment.memory + 1)

    def greedy(state, rng_key, moment):
        return ActOutput(action=jnp.zeros_like(moment.memory), memory=moment.memory)

    notes = {"init_memory": lambda num_envs: jnp.zeros(num_envs, jnp.int32)}
    return scripted_agent(None, act=explore, greedy={"it": greedy}, **notes)


@pytest.mark.parametrize(
    ("first_action", "share"),
    [
        (lambda memory: memory % 2, 0.5),  # What was noted counts.
        (lambda memory: (jnp.arange(len(memory)) == 0).astype(jnp.int32), 0.25),  # And the place.
        (lambda memory: jnp.zeros_like(memory), 0.0),
    ],
)
def test_how_often_acting_leaves_the_greedy_choice(first_action, share):
    agent = remembering_agent(first_action)
    sizes = dataclasses.replace(SIZES, num_acting=4)
    state = agent.init(jax.random.key(0), {})
    metrics, answers = diagnose(Climb(length=ENDLESS), agent, state, sizes)
    assert answers["differs"].shape == (256, 4)
    assert metrics == {"explore/nongreedy_action_share": share}
    assert set(missing(answers)) == {
        *("policy/*", "model/value_*", "model/value_error_at_depth_0_own"),
        "model/*_at_depth_1, 2, ...",
    }


@pytest.mark.parametrize("name", ["q_learning", "table_muzero"])
def test_learners_of_tables_are_diagnosed_as_far_as_it_applies(name):
    config = tabular("tiny", "line", name)
    env = make_environment("line")
    agent = make_agent(config, env)
    state = jax.jit(make_train(env, agent, config).init)(jax.random.key(0)).agent
    metrics, answers = diagnose(env, agent, state, DiagnosisSizes(2, 60, 16, 2))
    searches = name == "table_muzero"
    assert ("policy/q_agreement_share" in metrics) == searches
    assert ("model/value_error_at_depth_2_random" in metrics) == searches
    assert "model/value_error_at_depth_0_own" in metrics
    assert len(missing(answers)) == (0 if searches else 2)


def test_the_score_of_the_true_model_is_an_observer():
    """Two steps of 2 each, in every episode, whatever the learned model says."""
    env = Climb(length=2)
    agent, state = climber(env, overpay=-9.0)
    observer = TrueModelScore(env, agent, num_episodes=3)
    answers = jax.device_get(jax.jit(observer.answers)(state, jax.random.key(0)))
    assert observer.metrics(answers) == {"evaluation/score_true_model": 4.0}


@pytest.mark.slow
def test_they_are_observers_of_evaluations_and_can_be_vmapped():
    env = Climb(length=4)
    agent, state = climber(env, drift=0.4)
    config = EvaluationConfig(num_episodes=2, final_num_episodes=2, num_envs=2)
    observers = [Diagnosis(env, agent, SIZES), TrueModelScore(env, agent, num_episodes=3)]
    keys = [jax.random.key(seed) for seed in (0, 1)]
    alone = Evaluate(env, agent, config, observers=observers)(state, keys[1], 2).observed
    beside = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    both = Evaluate(env, agent, config, width=2, observers=observers).each(beside, keys, 2)
    assert alone["evaluation/score_true_model"] == 8.0
    assert both[1].observed.keys() == alone.keys()
    for name, value in alone.items():
        assert both[1].observed[name] == pytest.approx(value, rel=1e-3, abs=1e-5, nan_ok=True)


def test_a_diagnosis_of_no_steps_is_refused():
    env = Climb()
    agent, _ = climber(env)
    with pytest.raises(ConfigError, match="no fewer steps than depths"):
        Diagnosis(env, agent, DiagnosisSizes(num_steps=4, num_depths=5))
    with pytest.raises(ConfigError, match="at least 1"):
        Diagnosis(env, agent, DiagnosisSizes(num_depths=0))
    scripted = scripted_agent(lambda key, timestep, explore: timestep.to_play)
    with pytest.raises(ConfigError, match="no way of acting true_model"):
        TrueModelScore(env, scripted)


def test_the_discount_is_the_one_traced_setting_of_that_name():
    for traced, found in (
        ({"target.discount": 0.5, "a": 1.0}, 0.5),
        ({"discount": 0.25}, 0.25),
        ({"rate": 1.0}, None),
        ({"a.discount": 0.1, "b.discount": 0.2}, None),
    ):
        state = scripted_agent(None).init(jax.random.key(0), traced)
        assert discount_of(state) == found
