"""Targets, masks, loss and tic-tac-toe in plain Python: loops and floats, slow and easy to believe.

A window is a list of rows; a row is a dict with `reward`, `terminated`, `truncated`, `policy` and
`value` (the bootstrap value of the state that the row was acted in).
"""

import functools
import math


def m_step_return(window, start, num_steps, discount, final_value):
    """Sutton and Barto's G_{t:t+m}, stopped by the end of the episode."""
    total, weight = 0.0, 1.0
    for row in window[start : start + num_steps]:
        total += weight * row["reward"]
        if row["terminated"]:
            return total
        weight *= discount
        if row["truncated"]:
            return total + weight * final_value
    return total + weight * window[start + num_steps]["value"]


def lambda_return(window, start, td_steps, td_lambda, discount, final_value):
    """The forward view: a weighted mean of the m-step returns, m = 1..n."""
    total = 0.0
    for m in range(1, td_steps + 1):
        weight = td_lambda ** (m - 1) * (1.0 - td_lambda if m < td_steps else 1.0)
        total += weight * m_step_return(window, start, m, discount, final_value)
    return total


def how_ended_before(window, k):
    """How the first episode ended before state `k`; None where it had not."""
    for row in window[:k]:
        if row["terminated"] or row["truncated"]:
            return "terminated" if row["terminated"] else "truncated"
    return None


def make_targets(window, num_unroll_steps, td_steps, td_lambda, discount, final_value):
    """One dict a state 0..K; `reward` is that of the step into the state."""
    targets = []
    for k in range(num_unroll_steps + 1):
        ended, ended_earlier = how_ended_before(window, k), how_ended_before(window, max(k - 1, 0))
        value = lambda_return(window, k, td_steps, td_lambda, discount, final_value)
        targets.append(
            {
                "policy": window[k]["policy"],
                "value": 0.0 if ended else value,
                "reward": 0.0 if k == 0 or ended_earlier else window[k - 1]["reward"],
                "policy_mask": ended is None,
                "value_mask": ended != "truncated",
                "reward_mask": k > 0 and ended_earlier != "truncated",
            }
        )
    return targets


def two_hot(x, support_size, spacing=1.0):
    """MuZero's transform and the two neighbouring bins."""
    x = (math.copysign(math.sqrt(abs(x) + 1.0) - 1.0, x) + 1e-3 * x) / spacing
    x = min(max(x, -support_size), support_size)
    low = min(math.floor(x), support_size - 1)
    labels = [0.0] * (2 * support_size + 1)
    labels[low + support_size] = 1.0 - (x - low)
    labels[low + support_size + 1] = x - low
    return labels


def cross_entropy(logits, labels):
    """-sum p log softmax(logits)."""
    log_sum = math.log(sum(math.exp(x) for x in logits))
    return -sum(p * (x - log_sum) for x, p in zip(logits, labels, strict=True))


def legal_entropy(logits, legal):
    exponentials = [math.exp(x) for x, ok in zip(logits, legal, strict=True) if ok]
    return -sum(e / sum(exponentials) * math.log(e / sum(exponentials)) for e in exponentials)


def window_loss(predictions, targets, weights, support, entropy_weight):
    """The K-step loss; `predictions` are dicts of `policy`, `value` and `reward` logits.

    The `support` is its half-width and its spacing.
    """
    total = 0.0
    for k, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        share = 1.0 if k == 0 else 1.0 / (len(targets) - 1)
        for name, weight in weights.items():
            if not target[f"{name}_mask"]:
                continue
            labels = target[name] if name == "policy" else two_hot(target[name], *support)
            total += share * weight * cross_entropy(prediction[name], labels)
        if target["policy_mask"]:
            entropy = legal_entropy(prediction["policy"], target["legal"])
            total -= share * entropy_weight * entropy
    return total


LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


@functools.cache
def minimax(own, other):
    """Exact value for the player to move; the stones are frozensets of cells."""
    if any(set(line) <= other for line in LINES):
        return -1
    free = [cell for cell in range(9) if cell not in own | other]
    return max((-minimax(other, own | {cell}) for cell in free), default=0)


def best_moves(own, other):
    """The value of a position and the cells that reach it."""
    free = [cell for cell in range(9) if cell not in own | other]
    values = {cell: -minimax(other, own | {cell}) for cell in free}
    return max(values.values()), {c for c, v in values.items() if v == max(values.values())}
