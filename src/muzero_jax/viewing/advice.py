"""What the numbers of a diagnosis mean, and what to change: one sentence for each group of them.

The limits come from an audit of Breakout (docs/learning.md). They tell a run that is stuck from one
that is not; they are no laws, and a number beside its limit says little.
"""

import math
from collections.abc import Mapping

# A Breakout run that was stuck held 1.2 % distinct observations.
FEW_DISTINCT = 0.05
# A share of this size is one action in an episode of a hundred steps.
NEARLY_GREEDY, HARDLY_GREEDY = 0.01, 0.5
# In that run a prior had 0.27 nats of 1.10 in a state whose Q-values agreed.
FEW_STATES, CLOSED_PRIOR = 0.05, 0.5
# Errors of about 13 % of the spread at depth 1 and of 35 % at 5 went with harmful simulations.
WRONG_AT_ONCE, WRONG_LATER = 0.10, 0.25
# A model that predicts no reward at all misses 100 % of them.
MISSED_REWARDS = 0.5
# A value that says nothing of the return has about the spread of the values as its error.
WRONG_RETURN = 0.5

Metrics = Mapping[str, float]


def advise(metrics: Metrics) -> dict[str, str]:
    """A sentence or two for each group of metrics that were measured.

    The keys are the names of metrics, without the depth where all depths share a sentence.
    """
    advisers = {
        "explore/distinct_observations_share": _distinct,
        "explore/nongreedy_action_share": _nongreedy,
        "policy/prior_entropy_where_q_agrees": _policy,
        "model/value_error_at_depth_0_own": _value_of_returns,
        "model/value_error_own": lambda found: _values(found, "own"),
        "model/value_error_random": lambda found: _values(found, "random"),
        "model/reward_error_own": lambda found: _rewards(found, "own"),
        "model/reward_error_random": lambda found: _rewards(found, "random"),
        "evaluation/score_true_model": _true_model,
    }
    told = {name: adviser(metrics) for name, adviser in advisers.items()}
    return {name: text for name, text in told.items() if text}


def depths_of(metrics: Metrics) -> list[int]:
    """The depths to which the model was unrolled, in order."""
    depths = list[int]()
    while f"model/value_error_at_depth_{len(depths) + 1}_own" in metrics:
        depths.append(len(depths) + 1)
    return depths


def _known(metrics: Metrics, name: str) -> float | None:
    value = metrics.get(name, math.nan)
    return None if math.isnan(value) else value


def _distinct(metrics: Metrics) -> str:
    share = _known(metrics, "explore/distinct_observations_share")
    if share is None:
        return ""
    if share < FEW_DISTINCT:
        return (
            "The ring holds few distinct observations: explore more (exploration.epsilon, "
            "exploration.novelty_share, loss.entropy_weight), or keep a smaller ring "
            "(replay.capacity). In a task of few states it cannot hold more."
        )
    return "The ring is more varied than that of a run that is stuck for want of exploration."


def _nongreedy(metrics: Metrics) -> str:
    share = _known(metrics, "explore/nongreedy_action_share")
    if share is None:
        return ""
    if share < NEARLY_GREEDY:
        return (
            "Acting hardly leaves the greedy choice, so that little else is tried: raise "
            "exploration.epsilon or search.gumbel_scale."
        )
    if share > HARDLY_GREEDY:
        return (
            "Most actions differ from the greedy ones, so that the ring says little about greedy "
            "play: lower exploration.epsilon, search.gumbel_scale or search.temperature."
        )
    return "Acting tries other actions beside the greedy ones."


def _policy(metrics: Metrics) -> str:
    share = _known(metrics, "policy/q_agreement_share")
    if share is None:
        return ""
    entropy = _known(metrics, "policy/prior_entropy_where_q_agrees")
    uniform = _known(metrics, "policy/uniform_entropy_where_q_agrees")
    if share < FEW_STATES or entropy is None or uniform is None:
        return "There are few states in which all Q-values agree: preferences have a reason."
    if entropy < CLOSED_PRIOR * uniform:
        return (
            "Where all Q-values agree the prior still prefers actions, for which no Q-value "
            "speaks: raise loss.entropy_weight or search.min_qvalue_range, or refresh the stored "
            "policies (target.reanalyse_fraction)."
        )
    return "Where all Q-values agree the prior is open, as it should be."


def _value_of_returns(metrics: Metrics) -> str:
    error = _known(metrics, "model/value_error_at_depth_0_own_relative")
    if error is None:
        return ""
    if error <= WRONG_RETURN:
        return "The values tell the returns of the agent's own play."
    bias = _known(metrics, "model/value_bias_at_depth_0_own") or 0.0
    told = "The values do not tell the returns of the agent's greedy play: "
    if abs(bias) < 0.5 * metrics["model/value_error_at_depth_0_own"]:
        return told + (
            "more updates (replay.ratio), or a finer or wider support (network.support_spacing, "
            "network.support_size). Chance in the environment adds to this error."
        )
    if bias < 0.0:
        return told + (
            "they are too low, as values of exploring play are, or of too few updates: fewer "
            "replayed steps in the targets (target.td_steps, target.reanalyse_fraction), less "
            "exploration, or more updates (replay.ratio)."
        )
    return told + (
        "they are too high: slower bootstraps (target.target_update_rate), more replayed steps in "
        "the targets (target.td_steps)."
    )


def _values(metrics: Metrics, way: str) -> str:
    depths = depths_of(metrics)
    names = [f"model/value_error_at_depth_{depth}_{way}_relative" for depth in depths]
    found = [_known(metrics, name) for name in names]
    if not found or found[0] is None or found[-1] is None:
        return ""
    if found[0] <= WRONG_AT_ONCE and found[-1] <= WRONG_LATER:
        return f"The model's values stay near the true states' along {_actions(way)}."
    if way == "random":
        return (
            "The model is wrong about actions that the agent does not take, so that the search "
            "cannot find better ones: explore more (exploration.epsilon), unroll further "
            "(target.num_unroll_steps), or search less (search.num_simulations)."
        )
    return (
        "The model's values drift from the true states' even along the agent's own actions: more "
        "updates (replay.ratio), a larger network, or fewer simulations (search.num_simulations)."
    )


def _rewards(metrics: Metrics, way: str) -> str:
    depths, size = depths_of(metrics), _known(metrics, f"model/reward_size_{way}")
    if not depths or size is None:
        return ""
    if size == 0.0:
        return f"No reward was met along {_actions(way)}."
    error = _known(metrics, f"model/reward_error_at_depth_{depths[-1]}_{way}")
    if error is not None and error > MISSED_REWARDS * size:
        return (
            f"At depth {depths[-1]} the error is {error / size:.0%} of the mean reward along "
            f"{_actions(way)}: raise loss.reward_weight, unroll further (target.num_unroll_steps), "
            "or take a finer support (network.support_spacing)."
        )
    return f"The model sees the rewards along {_actions(way)}."


def _actions(way: str) -> str:
    return {"own": "the agent's own actions", "random": "random actions"}[way]


def _true_model(metrics: Metrics) -> str:
    learned = _known(metrics, "evaluation/score")
    true = _known(metrics, "evaluation/score_true_model")
    noise = _known(metrics, "evaluation/score_difference_error")
    if learned is None or true is None or noise is None:
        return ""
    if true - learned > 2 * noise:
        return (
            "The same search of the true dynamics plays better: the difference is what the errors "
            "of the learned dynamics cost."
        )
    return (
        "The same search of the true dynamics plays no better: if the score is too low, values, "
        "preferences and exploration are the limit, not the learned dynamics."
    )
