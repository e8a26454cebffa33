"""Finite processes from a transition table, and with slips."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from muzero_jax.tabular.processes.mdp import InvalidMDPError, TabularMDP

_OUTCOME = ("next_state", "reward", "terminates", "probability")


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
    rewards, num_states = np.asarray(reward, np.float64), len(table)
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
    return _merge_outcomes(
        TabularMDP(name, next_state, table, rewards, ends, np.asarray(start), discount)
    )


def with_slip(mdp: TabularMDP, slip: float) -> TabularMDP:
    """The process in which an action is replaced by a uniformly drawn one with probability `slip`.

    Raises:
      InvalidMDPError: `slip` is not a probability.
    """
    if not 0.0 <= slip <= 1.0:
        raise InvalidMDPError(f"{mdp.name}: slip must be between 0 and 1, found {slip!r}.")
    if slip == 0.0:
        return mdp
    num_drawn = mdp.num_actions * mdp.num_outcomes
    weight = np.repeat([1.0 - slip, slip / mdp.num_actions], [mdp.num_outcomes, num_drawn])

    def beside_all(x: np.ndarray) -> np.ndarray:
        """`[S, A, K + A K]`: the outcomes of an action, then the outcomes of all actions."""
        every = np.broadcast_to(x.reshape((len(x), 1, -1)), (*x.shape[:2], num_drawn))
        return np.concatenate([x, every], axis=-1)

    outcomes: dict[str, Any] = {field: beside_all(getattr(mdp, field)) for field in _OUTCOME}
    outcomes["probability"] *= weight
    return _merge_outcomes(dataclasses.replace(mdp, **outcomes))


def _merge_outcomes(mdp: TabularMDP) -> TabularMDP:
    """The same process without outcomes that are equal, or that have no probability."""
    rows = [_merged(mdp, *pair) for pair in np.ndindex(mdp.num_states, mdp.num_actions)]
    # The rows are filled up with outcomes without probability, whose numbers do not matter.
    filled = np.zeros((len(rows), max(map(len, rows)), len(_OUTCOME)))
    for outcomes, row in zip(filled, rows, strict=True):
        outcomes[: len(row)] = row
    fields = np.moveaxis(filled.reshape((*mdp.next_state.shape[:2], -1, len(_OUTCOME))), -1, 0)
    return dataclasses.replace(mdp, **dict(zip(_OUTCOME, fields, strict=True)))


def _merged(mdp: TabularMDP, state: int, action: int) -> list[tuple[float, ...]]:
    """(next state, reward, terminates, probability) of each outcome that can happen."""
    sums: dict[tuple[float, ...], float] = {}
    columns = (getattr(mdp, field)[state, action].tolist() for field in _OUTCOME)
    for *outcome, probability in zip(*columns, strict=True):
        if probability:
            sums[tuple(outcome)] = sums.get(tuple(outcome), 0.0) + probability
    return [(*outcome, probability) for outcome, probability in sums.items()]
