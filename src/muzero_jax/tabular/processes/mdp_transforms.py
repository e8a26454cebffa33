"""Finite processes from a transition table, with fewer outcomes, or with slips."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from muzero_jax.tabular.processes.mdp import InvalidMDPError, TabularMDP


def mdp_from_table(
    transition: ArrayLike,
    reward: ArrayLike,
    start: ArrayLike,
    discount: float,
    *,
    termination: ArrayLike | None = None,
    name: str = "mdp",
) -> TabularMDP:
    """Makes a process from a transition table.

    Args:
      transition: `[S, A, S]` probability of each next state.
      reward: `[S, A]`, or `[S, A, S]` where the reward depends on the next state.
      start: `[S]` distribution of the first state.
      discount: discount of one step, in (0, 1].
      termination: `[S]` bool, whether entering the state ends the episode; None: no state does.
      name: the name of the process in messages.

    Raises:
      InvalidMDPError: shapes do not match, or the arrays are refused by `TabularMDP`.
    """
    table = np.asarray(transition, np.float64)
    if table.ndim != 3 or table.shape[0] != table.shape[2] or 0 in table.shape:
        raise InvalidMDPError(
            f"{name}: transition must be [states, actions, states], found shape {table.shape}."
        )
    num_states = table.shape[0]
    rewards = np.asarray(reward, np.float64)
    if rewards.shape == table.shape[:2]:
        rewards = np.broadcast_to(rewards[..., None], table.shape)
    ends = np.zeros(num_states, bool) if termination is None else np.asarray(termination, bool)
    if rewards.shape != table.shape or ends.shape != (num_states,):
        raise InvalidMDPError(
            f"{name}: for a transition of shape {table.shape} the reward must be "
            f"{table.shape[:2]} or {table.shape} and the termination ({num_states},), found "
            f"{rewards.shape} and {ends.shape}."
        )
    next_state, ends = (np.broadcast_to(x, table.shape) for x in (np.arange(num_states), ends))
    return merge_outcomes(
        TabularMDP(name, next_state, table, rewards, ends, np.asarray(start), discount)
    )


def merge_outcomes(mdp: TabularMDP) -> TabularMDP:
    """The same process with as few outcomes as possible.

    Equal outcomes are summed, and outcomes without probability are removed.
    """
    rows = [_merged(mdp, s, a) for s in range(mdp.num_states) for a in range(mdp.num_actions)]
    num_outcomes = max(map(len, rows))
    columns = np.zeros((4, len(rows), num_outcomes))
    # The rows are filled up with outcomes without probability, whose numbers do not matter.
    for index, row in enumerate(rows):
        columns[:, index, : len(row)] = np.array(row).T
    shape = (mdp.num_states, mdp.num_actions, num_outcomes)
    next_state, reward, terminates, probability = columns.reshape((4, *shape))
    return dataclasses.replace(
        mdp,
        next_state=next_state,
        probability=probability,
        reward=reward,
        terminates=terminates,
    )


def _merged(mdp: TabularMDP, state: int, action: int) -> list[tuple[float, float, float, float]]:
    """(next state, reward, terminates, probability) of each outcome that can happen."""
    sums: dict[tuple[float, float, float], float] = {}
    for k in np.flatnonzero(mdp.probability[state, action]):
        place = (state, action, k)
        key = float(mdp.next_state[place]), float(mdp.reward[place]), float(mdp.terminates[place])
        sums[key] = sums.get(key, 0.0) + float(mdp.probability[place])
    return [(*key, probability) for key, probability in sums.items()]


def with_slip(mdp: TabularMDP, slip: float) -> TabularMDP:
    """The process in which an action is replaced by a uniformly drawn one with probability `slip`.

    Raises:
      InvalidMDPError: `slip` is not a probability.
    """
    if not 0.0 <= slip <= 1.0:
        raise InvalidMDPError(f"{mdp.name}: slip must be between 0 and 1, found {slip!r}.")
    if slip == 0.0:
        return mdp

    def beside_all(x: np.ndarray) -> np.ndarray:
        """`[S, A, K + A K]`: the outcomes of an action, then the outcomes of all actions."""
        every = np.broadcast_to(x.reshape((len(x), 1, -1)), (*x.shape[:2], x[0].size))
        return np.concatenate([x, every], axis=-1)

    intended = np.full(mdp.probability.shape, 1.0 - slip)
    drawn = np.full((*mdp.probability.shape[:2], mdp.probability[0].size), slip / mdp.num_actions)
    slippery = dataclasses.replace(
        mdp,
        next_state=beside_all(mdp.next_state),
        probability=beside_all(mdp.probability) * np.concatenate([intended, drawn], axis=-1),
        reward=beside_all(mdp.reward),
        terminates=beside_all(mdp.terminates),
    )
    return merge_outcomes(slippery)
