"""What the numbers of a diagnosis are said to mean."""

import math

import pytest

from muzero_jax.viewing.advice import advise, depths_of

STUCK = {  # The stuck run of Breakout that the limits come from.
    "explore/distinct_observations_share": 0.012,
    "explore/nongreedy_action_share": 0.001,
    "policy/q_agreement_share": 0.3,
    "policy/prior_entropy_where_q_agrees": 0.27,
    "policy/uniform_entropy_where_q_agrees": 1.10,
    "model/value_error_at_depth_0_own": 1.0,
    "model/value_bias_at_depth_0_own": 0.1,
    "model/value_error_at_depth_0_own_relative": 0.7,
    **{f"model/value_error_at_depth_{k}_own": 0.1 for k in (1, 2)},
    **{f"model/value_error_at_depth_{k}_own_relative": 0.3 for k in (1, 2)},
    **{f"model/value_error_at_depth_{k}_random_relative": 0.35 for k in (1, 2)},
    **{f"model/reward_error_at_depth_{k}_{way}": 0.09 for k in (1, 2) for way in ("own", "random")},
    "model/reward_size_own": 0.1,
    "model/reward_size_random": 0.0,
    "evaluation/score": 6.6,
    "evaluation/score_true_model": 18.8,
    "evaluation/score_difference_error": 1.0,
}
WELL = {
    **STUCK,
    "explore/distinct_observations_share": 0.5,
    "explore/nongreedy_action_share": 0.1,
    "policy/prior_entropy_where_q_agrees": 1.0,
    "model/value_error_at_depth_0_own_relative": 0.1,
    **{name: 0.01 for name in STUCK if "_at_depth_" in name},
    "evaluation/score": 18.0,
}
SAID = {  # Words for the stuck run, and for the other one.
    "explore/distinct_observations_share": ("few distinct observations", "more varied"),
    "explore/nongreedy_action_share": ("raise exploration.epsilon", "beside the greedy"),
    "policy/prior_entropy_where_q_agrees": ("loss.entropy_weight", "is open"),
    "model/value_error_at_depth_0_own": ("Chance in the environment", "tell the returns"),
    "model/value_error_own": ("fewer simulations", "stay near"),
    "model/value_error_random": ("explore more", "stay near"),
    "model/reward_error_own": ("90% of the mean reward", "sees the rewards"),
    "model/reward_error_random": ("No reward was met", "No reward was met"),
    "evaluation/score_true_model": ("learned dynamics cost", "not the learned dynamics"),
}


@pytest.mark.parametrize("name", SAID)
def test_advice_depends_on_the_number(name):
    for metrics, words in zip((STUCK, WELL), SAID[name], strict=True):
        assert words in advise(metrics)[name]


def test_nothing_is_said_of_what_was_not_measured():
    assert set(advise(STUCK)) == set(SAID)
    assert advise({}) == {}
    assert advise(dict.fromkeys(STUCK, math.nan)) == {}


def test_few_states_with_equal_values_are_said_to_be_few():
    few = {**STUCK, "policy/q_agreement_share": 0.01}
    assert "few states" in advise(few)["policy/prior_entropy_where_q_agrees"]
    none = {**STUCK, "policy/prior_entropy_where_q_agrees": math.nan}
    assert "few states" in advise(none)["policy/prior_entropy_where_q_agrees"]


def test_much_exploration_is_said_to_be_much():
    found = advise({"explore/nongreedy_action_share": 0.9})
    assert "Most actions differ" in found["explore/nongreedy_action_share"]


@pytest.mark.parametrize(("bias", "words"), [(-0.6, "too low"), (0.6, "too high")])
def test_values_on_one_side_of_the_returns_are_said_to_be(bias, words):
    found = advise({**STUCK, "model/value_bias_at_depth_0_own": bias})
    assert words in found["model/value_error_at_depth_0_own"]


def test_depths_are_found_in_order():
    assert depths_of(STUCK) == [1, 2] and depths_of({}) == []
