"""The metrics of a diagnosis, from what an agent has answered; on the host, without JAX."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Q_AGREEMENT = 0.05
"""Q-values of a state agree where they lie within this share of the standard deviation of all root
Q-values."""
_REASONS = {
    "differs": ("explore/nongreedy_action_share", "the actions are not numbers"),
    "policy": ("policy/*", "the agent does not search, or keeps no trees"),
    "values": ("model/value_*", "the agent learns no values"),
    "returns": (
        "model/value_error_at_depth_0_own",
        "the agent learns no values, or has no traced setting called discount",
    ),
    "own": ("model/*_at_depth_1, 2, ...", "the agent has no model that could be unrolled"),
}


def metrics_of(answers: Mapping[str, Any]) -> dict[str, float]:
    """The metrics by name, of which those that nothing was found for are NaN.

    The answers are those of `diagnosis.Diagnosis`, on the host.
    """
    found = dict[str, float]()
    if "differs" in answers:
        found["explore/nongreedy_action_share"] = mean_of(answers["differs"])
    if "policy" in answers:
        found |= _policy_metrics(**answers["policy"])
    return found | _model_metrics(answers)


def missing(answers: Mapping[str, Any]) -> dict[str, str]:
    """Why metrics are left out, by their names, from what the answers lack."""
    return dict(told for name, told in _REASONS.items() if name not in answers)


def _policy_metrics(
    prior: np.ndarray, qvalue: np.ndarray, tried: np.ndarray, legal: np.ndarray
) -> dict[str, float]:
    """What the prior prefers where the search found no difference, from `[M, A]` arrays.

    States in which fewer than two actions were tried are not counted.
    """
    counts = tried.sum(axis=-1) >= 2
    spread = float(np.std(qvalue[tried], dtype=np.float64)) if tried.any() else 0.0
    high, low = (
        edge(np.where(tried, qvalue, fill), axis=-1)
        for edge, fill in ((np.max, -np.inf), (np.min, np.inf))
    )
    agrees = counts & (
        np.where(counts, high, 0.0) - np.where(counts, low, 0.0) <= Q_AGREEMENT * spread
    )
    logs = np.log(np.where(prior > 0, prior, 1.0))
    entropy = -(prior * logs).sum(axis=-1)
    return {
        "policy/q_agreement_share": mean_of(agrees[counts]),
        "policy/prior_entropy_where_q_agrees": mean_of(entropy[agrees]),
        "policy/uniform_entropy_where_q_agrees": mean_of(np.log(legal.sum(axis=-1))[agrees]),
    }


def _model_metrics(answers: Mapping[str, Any]) -> dict[str, float]:
    """Errors of values and rewards, with the spread of the true values of all compared states."""
    ways = [name for name in ("own", "random") if name in answers]
    truths = [np.ravel(answers["values"])] if "values" in answers else []
    truths += [answers[way]["value"]["truth"][answers[way]["value"]["known"]] for way in ways]
    if not truths:
        return {}
    spread = float(np.std(np.concatenate(truths), dtype=np.float64))
    errors, others = dict[str, float](), {"model/value_spread": spread}
    if "returns" in answers:
        errors["model/value_error_at_depth_0_own"] = _error(answers["returns"])
        others["model/value_bias_at_depth_0_own"] = _bias(answers["returns"])
    for way in ways:
        for name, found in answers[way].items():
            for depth in range(len(found["truth"])):
                at_depth = {key: x[depth] for key, x in found.items()}
                errors[f"model/{name}_error_at_depth_{depth + 1}_{way}"] = _error(at_depth)
    relative = {f"{name}_relative": _ratio(error, spread) for name, error in errors.items()}
    sizes = {f"model/reward_size_{way}": _reward_size(answers[way]["reward"]) for way in ways}
    return {**others, **sizes, **errors, **relative}


def _error(found: Mapping[str, np.ndarray]) -> float:
    """The mean absolute error of what is known."""
    return mean_of(np.abs(found["value"] - found["truth"])[found["known"]])


def _bias(found: Mapping[str, np.ndarray]) -> float:
    """The mean error of what is known, with its sign; negative where the values are too low."""
    return mean_of((found["value"] - found["truth"])[found["known"]])


def _reward_size(found: Mapping[str, np.ndarray]) -> float:
    """The mean size of the true rewards."""
    return mean_of(np.abs(found["truth"])[found["known"]])


def _ratio(x: float, y: float) -> float:
    return x / y if y > 0 else float("nan")


def mean_of(x: np.ndarray) -> float:
    """The mean of numbers or of truth values; NaN of none."""
    return float(np.mean(x, dtype=np.float64)) if x.size else float("nan")
