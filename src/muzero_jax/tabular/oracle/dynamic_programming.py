"""Exact values, policies and optimal actions of a finite process, in float64 on the host.

A policy is `[S]` actions, one for each state, or `[S, A]` probabilities. Where a discount is None,
the process's own discount is used.
"""

import dataclasses

import numpy as np

from muzero_jax.tabular.processes.mdp import InvalidMDPError, TabularMDP

_MAX_SWEEPS = 100_000


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


def action_values(mdp: TabularMDP, value: np.ndarray, discount: float | None = None) -> np.ndarray:
    """One Bellman backup of every state and action (Sutton and Barto 2018, equation 4.6).

    Args:
      mdp: the process.
      value: `[..., S]` values of the states.
      discount: discount of one step, or None.

    Returns:
      `[..., S, A]` values of the actions.
    """
    discount = mdp.discount if discount is None else discount
    going_on = discount * ~mdp.terminates * value[..., mdp.next_state]
    return (mdp.probability * (mdp.reward + going_on)).sum(axis=-1)


def solve(mdp: TabularMDP, discount: float | None = None, tie_tolerance: float = 1e-9) -> Solution:
    """Value iteration, then the exact evaluation of the policy that it ends with.

    Args:
      mdp: the process.
      discount: discount of one step, or None.
      tie_tolerance: largest difference between the values of equally good actions.

    Raises:
      InvalidMDPError: the discount is 1 and values grow without end.
    """
    value = value_iteration(mdp, discount)
    greedy = action_values(mdp, value, discount).argmax(axis=-1)
    exact = policy_value(mdp, greedy, discount)
    # A greedy policy may walk in a circle of equal values where nothing is discounted.
    value = np.maximum(value, exact)
    qvalues = action_values(mdp, value, discount)
    return Solution(
        value=value,
        qvalues=qvalues,
        optimal_actions=optimal_actions(qvalues, tie_tolerance),
        optimal_return=start_return(mdp, value),
    )


def optimal_actions(qvalues: np.ndarray, tie_tolerance: float = 1e-9) -> np.ndarray:
    """`[..., A]` bool, whether the value of an action is the highest but for rounding."""
    return qvalues >= qvalues.max(axis=-1, keepdims=True) - tie_tolerance


def value_iteration(
    mdp: TabularMDP, discount: float | None = None, tolerance: float = 1e-12
) -> np.ndarray:
    """`[S]` optimal values (Sutton and Barto 2018, section 4.4).

    Args:
      mdp: the process.
      discount: discount of one step, or None.
      tolerance: largest change of a value in the last sweep, relative to the greatest value.

    Raises:
      InvalidMDPError: the discount is 1 and values grow without end.
    """
    discount = mdp.discount if discount is None else discount
    value = np.zeros(mdp.num_states)
    bound = mdp.num_states * np.abs(mdp.reward).max(initial=0.0) + 1.0
    for _ in range(_MAX_SWEEPS):
        new = action_values(mdp, value, discount).max(axis=-1)
        change = np.abs(new - value).max()
        value = new
        if change <= tolerance * max(1.0, float(np.abs(value).max())):
            return value
        if discount == 1.0 and np.abs(value).max() > 1e3 * bound:
            break
    if discount < 1.0:
        return _improved(mdp, value, discount)
    raise InvalidMDPError(
        f"{mdp.name}: the value of state {np.abs(value).argmax()} grows without end, because "
        "nothing is discounted and episodes need not end."
    )


def _improved(mdp: TabularMDP, value: np.ndarray, discount: float) -> np.ndarray:
    """`[S]` optimal values by policy iteration (Sutton and Barto 2018, section 4.3).

    It ends early where sweeps of value iteration would take too long.
    """
    policy = action_values(mdp, value, discount).argmax(axis=-1)
    while True:
        value = policy_value(mdp, policy, discount)
        qvalues = action_values(mdp, value, discount)
        chosen = qvalues[np.arange(mdp.num_states), policy]
        # An action must be better by more than rounding to replace a choice, so that the loop ends.
        better = qvalues.max(axis=-1) > chosen + 1e-9 * max(1.0, float(np.abs(value).max()))
        if not better.any():
            return value
        policy = np.where(better, qvalues.argmax(axis=-1), policy)


def policy_value(
    mdp: TabularMDP,
    policy: np.ndarray,
    discount: float | None = None,
    num_steps: int | None = None,
) -> np.ndarray:
    """`[S]` exact values of a policy, by a linear solve (Sutton and Barto 2018, equation 4.4).

    Args:
      mdp: the process.
      policy: `[S]` actions or `[S, A]` probabilities.
      discount: discount of one step, or None.
      num_steps: number of steps that count, for a policy of actions; None counts all steps.

    Raises:
      ValueError: `policy` has another shape.
      InvalidMDPError: the discount is 1, and rewards are paid where an episode never ends.
    """
    discount = mdp.discount if discount is None else discount
    policy = np.asarray(policy)
    if num_steps is not None and policy.ndim == 1:
        return _value_of_steps(mdp, policy, discount, num_steps)
    going_on, reward = _follow(mdp, policy)
    endless = np.zeros(mdp.num_states, bool)
    if discount == 1.0:
        endless = ~_may_end(going_on)
        if (paid := endless & (reward != 0.0)).any():
            raise InvalidMDPError(
                f"{mdp.name}: the policy's episodes never end from state {np.argmax(paid)}, which "
                "is paid for and not discounted."
            )
    value = np.zeros(mdp.num_states)
    ends = np.flatnonzero(~endless)
    matrix = np.eye(len(ends)) - discount * going_on[np.ix_(ends, ends)]
    value[ends] = np.linalg.solve(matrix, reward[ends])
    return value


def policy_return(mdp: TabularMDP, policy: np.ndarray, discount: float | None = None) -> float:
    """The exact expected discounted return of a policy from the start distribution.

    Args:
      mdp: the process.
      policy: `[S]` actions or `[S, A]` probabilities.
      discount: discount of one step, or None.
    """
    return start_return(mdp, policy_value(mdp, policy, discount))


def start_return(mdp: TabularMDP, value: np.ndarray) -> float:
    """The mean of `[S]` values over the start distribution."""
    return float(mdp.start @ value)


def _follow(mdp: TabularMDP, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`[S, S]` probabilities of going on to each state, and `[S]` mean rewards, under a policy."""
    num_states, num_actions = mdp.num_states, mdp.num_actions
    if policy.shape == (num_states,):
        chosen = np.arange(num_states), policy
        probability, reward = mdp.probability[chosen], mdp.reward[chosen]
        next_state, terminates = mdp.next_state[chosen], mdp.terminates[chosen]
        going_on = np.zeros((num_states, num_states))
        np.add.at(going_on, (chosen[0][:, None], next_state), probability * ~terminates)
        return going_on, (probability * reward).sum(axis=-1)
    if policy.shape != (num_states, num_actions):
        raise ValueError(
            f"a policy must be of shape {(num_states,)} or {(num_states, num_actions)}, found "
            f"{policy.shape}."
        )
    going_on = np.einsum("sa,sat->st", policy, mdp.transition)
    return going_on, (policy * mdp.expected_reward).sum(axis=-1)


def _value_of_steps(
    mdp: TabularMDP, policy: np.ndarray, discount: float, num_steps: int
) -> np.ndarray:
    """`[S]` values of the first `num_steps` steps of `policy [S]`."""
    chosen = np.arange(mdp.num_states), policy
    probability, next_state = mdp.probability[chosen], mdp.next_state[chosen]
    reward = (probability * mdp.reward[chosen]).sum(axis=-1)
    going_on = discount * probability * ~mdp.terminates[chosen]
    value = np.zeros(mdp.num_states)
    for _ in range(num_steps):
        value = reward + (going_on * value[next_state]).sum(axis=-1)
    return value


def _may_end(going_on: np.ndarray) -> np.ndarray:
    """`[S]` bool, whether an episode may end, from `[S, S]` probabilities of going on."""
    leads = (going_on > 0.0).astype(np.float32)
    ending = going_on.sum(axis=-1) < 1.0 - 1e-9
    while True:
        further = ending | (leads @ ending > 0.0)
        if (further == ending).all():
            return ending
        ending = further
