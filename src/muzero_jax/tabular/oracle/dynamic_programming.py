"""Exact values, policies and optimal actions of a finite process, in float64 on the host.

A policy is `[S]` actions, one for each state, or `[S, A]` probabilities. The discount is that of
the process; `dataclasses.replace(mdp, discount=...)` asks about another one.
"""

import dataclasses

import numpy as np

from muzero_jax.tabular.processes.mdp import InvalidMDPError, TabularMDP, spread

_MAX_SWEEPS, _TOLERANCE = 100_000, 1e-12
# Values of equally good actions differ by rounding.
_TIE = 1e-9


@dataclasses.dataclass(frozen=True)
class Solution:
    """The optimum of a process.

    Attributes:
      value: `[S]` optimal values.
      qvalues: `[S, A]` optimal action values.
      optimal_actions: `[S, A]` bool, every action that an optimal policy may take.
      optimal_return: mean of the optimal values over the start distribution.
    """

    value: np.ndarray
    qvalues: np.ndarray
    optimal_actions: np.ndarray
    optimal_return: float


def action_values(mdp: TabularMDP, value: np.ndarray) -> np.ndarray:
    """One Bellman backup of every pair (Sutton and Barto 2018, equation 4.6), `[..., S, A]`.

    The values of the states are `value [..., S]`.
    """
    going_on = mdp.discount * ~mdp.terminates * value[..., mdp.next_state]
    return (mdp.probability * (mdp.reward + going_on)).sum(axis=-1)


def optimal_actions(qvalues: np.ndarray) -> np.ndarray:
    """`[..., A]` bool, whether the value of an action is the highest but for rounding."""
    return qvalues >= qvalues.max(axis=-1, keepdims=True) - _TIE


def solve(mdp: TabularMDP) -> Solution:
    """Value iteration, then the exact evaluation of the policy that it ends with.

    Raises:
      InvalidMDPError: the discount is 1 and values grow without end.
    """
    value, is_settled = _value_iteration(mdp)
    policy = action_values(mdp, value).argmax(axis=-1)
    exact = policy_value(mdp, policy)
    while not is_settled:  # Policy iteration (section 4.3) ends where sweeps take too long.
        value, qvalues = exact, action_values(mdp, exact)
        chosen = qvalues[np.arange(mdp.num_states), policy]
        # An action must be better by more than rounding to replace a choice, so that the loop ends.
        better = qvalues.max(axis=-1) > chosen + _TIE * max(1.0, float(np.abs(value).max()))
        is_settled = not better.any()
        policy = np.where(better, qvalues.argmax(axis=-1), policy)
        exact = policy_value(mdp, policy)
    # A greedy policy may walk in a circle of equal values where nothing is discounted.
    value = np.maximum(value, exact)
    qvalues = action_values(mdp, value)
    return Solution(value, qvalues, optimal_actions(qvalues), float(mdp.start @ value))


def _value_iteration(mdp: TabularMDP) -> tuple[np.ndarray, bool]:
    """`[S]` optimal values (section 4.4), and whether they have settled."""
    value = np.zeros(mdp.num_states)
    bound = mdp.num_states * np.abs(mdp.reward).max(initial=0.0) + 1.0
    for _ in range(_MAX_SWEEPS):
        old, value = value, action_values(mdp, value).max(axis=-1)
        largest = float(np.abs(value).max())
        if np.abs(value - old).max() <= _TOLERANCE * max(1.0, largest):
            return value, True
        if mdp.discount == 1.0 and largest > 1e3 * bound:
            break
    if mdp.discount < 1.0:
        return value, False
    raise InvalidMDPError(
        f"{mdp.name}: the value of state {np.abs(value).argmax()} grows without end, because "
        "nothing is discounted and episodes need not end."
    )


def policy_return(mdp: TabularMDP, policy: np.ndarray, num_steps: int | None = None) -> float:
    """The exact expected discounted return of a policy; the errors are those of `policy_value`.

    Args:
      mdp: the process, whose start distribution the return is from.
      policy: `[S]` actions or `[S, A]` probabilities.
      num_steps: number of steps that count; None counts all steps.
    """
    return float(mdp.start @ policy_value(mdp, policy, num_steps))


def policy_value(mdp: TabularMDP, policy: np.ndarray, num_steps: int | None = None) -> np.ndarray:
    """`[S]` exact values of a policy, by a linear solve (Sutton and Barto 2018, equation 4.4).

    Args:
      mdp: the process.
      policy: `[S]` actions or `[S, A]` probabilities.
      num_steps: number of steps that count; None counts all steps.

    Raises:
      ValueError: `policy` has another shape.
      InvalidMDPError: all steps count, the discount is 1, and rewards are paid where an episode
        never ends.
    """
    weight = _probabilities(mdp, np.asarray(policy))
    value = np.zeros(mdp.num_states)
    if num_steps is not None:
        for _ in range(num_steps):
            value = (weight * action_values(mdp, value)).sum(axis=-1)
        return value
    going_on = np.zeros((mdp.num_states, mdp.num_states))
    origin = np.arange(mdp.num_states)[:, None, None]
    probability = weight[..., None] * mdp.probability * ~mdp.terminates
    np.add.at(going_on, (origin, mdp.next_state), probability)
    reward = (weight * mdp.expected_reward).sum(axis=-1)
    may_end = np.ones(mdp.num_states, bool)
    if mdp.discount == 1.0:
        may_end = spread(going_on.sum(axis=-1) < 1.0 - 1e-9, *np.nonzero(going_on)[::-1])
        if (paid := ~may_end & (reward != 0.0)).any():
            raise InvalidMDPError(
                f"{mdp.name}: the policy's episodes never end from state {np.argmax(paid)}, which "
                "is paid for and not discounted."
            )
    ends = np.flatnonzero(may_end)
    matrix = np.eye(len(ends)) - mdp.discount * going_on[np.ix_(ends, ends)]
    value[ends] = np.linalg.solve(matrix, reward[ends])
    return value


def _probabilities(mdp: TabularMDP, policy: np.ndarray) -> np.ndarray:
    """`[S, A]` probabilities of the actions of a policy."""
    shape = (mdp.num_states, mdp.num_actions)
    if policy.shape not in (shape[:1], shape):
        raise ValueError(f"a policy must be of shape {shape[:1]} or {shape}, found {policy.shape}.")
    return np.eye(mdp.num_actions)[policy] if policy.ndim == 1 else policy
