"""Finite Markov decision processes as exact arrays, from which environments and oracles are made.

Every state and action has up to `K` *outcomes*: a next state, its probability, a reward, and
whether the episode ends. A compiled environment draws from the outcomes, and a backup sums over
them.
"""

import dataclasses
from typing import Any, TypeAlias

import numpy as np

from muzero_jax.envs.errors import EnvironmentCreationError

Cell: TypeAlias = tuple[int, int]
Walls: TypeAlias = frozenset[tuple[Cell, Cell]]

_TOLERANCE = 1e-6
_DISTRIBUTION = "probabilities of at least 0 that sum to 1"
_ARRAYS = ("next_state", "probability", "reward", "terminates", "start")
_DTYPES = {"next_state": np.int32, "terminates": np.bool_}


class InvalidMDPError(EnvironmentCreationError):
    """The arrays describe no Markov decision process; the message names the state and action."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """How the states lie on a grid, for pictures.

    Attributes:
      shape: numbers of rows and columns.
      cells: `[S]` the (row, column) of each state.
      arrows: `[S]` a text of `A` characters for each state, which show its actions.
      walls: pairs of neighbouring cells that a wall stands between, in both orders.
      marks: pairs of a state and a text that marks it, for example the goal.
    """

    shape: tuple[int, int]
    cells: tuple[Cell, ...]
    arrows: tuple[str, ...]
    walls: Walls = frozenset()
    marks: tuple[tuple[int, str], ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class TabularMDP:
    """A finite Markov decision process with `S` states, `A` actions and `K` outcomes of each pair.

    Arrays `[S, A]` may be given instead of `[S, A, K]` where every pair has one outcome.

    Attributes:
      name: the name of the process in messages.
      next_state: `[S, A, K]` int, the state that an outcome leads to. It must be a state even where
        the outcome terminates or has no probability, although nothing follows there.
      probability: `[S, A, K]` probabilities of the outcomes; they sum to 1 over `K`.
      reward: `[S, A, K]` rewards of the outcomes.
      terminates: `[S, A, K]` bool, whether the episode ends with the outcome.
      start: `[S]` distribution of the first state.
      discount: discount of one step, in (0, 1].
      goal: a state that must be reachable from every first state; None where there is none.
      grid: how to draw the process; None where its states do not lie on a grid.

    Raises (when constructed):
      InvalidMDPError: the arrays describe no process, or the goal cannot be reached.
    """

    name: str
    next_state: np.ndarray
    probability: np.ndarray
    reward: np.ndarray
    terminates: np.ndarray
    start: np.ndarray
    discount: float
    goal: int | None = None
    grid: Grid | None = None

    def __post_init__(self) -> None:
        has_one_outcome = np.ndim(self.next_state) == 2
        for field in _ARRAYS:
            array: Any = np.asarray(getattr(self, field), _DTYPES.get(field, np.float64))
            is_expanded = has_one_outcome and field != "start"
            object.__setattr__(self, field, array[..., None] if is_expanded else array)
        self._check_sizes()
        self._check_outcomes()
        self._check_goal()

    @property
    def num_states(self) -> int:
        """`S`."""
        return self.next_state.shape[0]

    @property
    def num_actions(self) -> int:
        """`A`."""
        return self.next_state.shape[1]

    @property
    def num_outcomes(self) -> int:
        """`K`."""
        return self.next_state.shape[2]

    @property
    def transition(self) -> np.ndarray:
        """`[S, A, S]` probabilities of going on in each state; the rest to 1 is termination."""
        table = np.zeros((self.num_states, self.num_actions, self.num_states))
        state, action, _ = np.ogrid[: self.num_states, : self.num_actions, :1]
        np.add.at(table, (state, action, self.next_state), self.probability * ~self.terminates)
        return table

    @property
    def expected_reward(self) -> np.ndarray:
        """`[S, A]` mean rewards."""
        return (self.probability * self.reward).sum(axis=-1)

    @property
    def reachable(self) -> np.ndarray:
        """`[S]` bool, whether an episode can come to the state."""
        possible = (self.probability > 0) & ~self.terminates
        return spread(self.start > 0, np.nonzero(possible)[0], self.next_state[possible])

    def _require(self, condition: object, message: str) -> None:
        if not condition:
            raise InvalidMDPError(f"{self.name}: {message}")

    def _check_sizes(self) -> None:
        shape, shapes = self.next_state.shape, [getattr(self, field).shape for field in _ARRAYS]
        self._require(
            len(shape) == 3 and 0 not in shape and shapes == [shape] * 4 + [shape[:1]],
            "arrays must be [states, actions, outcomes], and start [states], found "
            + ", ".join(f"{field} {found}" for field, found in zip(_ARRAYS, shapes, strict=True)),
        )
        self._require(
            0.0 < self.discount <= 1.0,
            f"the discount must be above 0 and at most 1, found {self.discount!r}.",
        )

    def _check_outcomes(self) -> None:
        """Refuses the first state and action whose outcomes are impossible, and a wrong start."""
        is_state = (self.next_state >= 0) & (self.next_state < self.num_states)
        for field, is_right, told in (
            ("probability", _are_distributions(self.probability), f"have {_DISTRIBUTION}"),
            ("next_state", is_state.all(axis=-1), f"lead to one of {self.num_states} states"),
            ("reward", np.isfinite(self.reward).all(axis=-1), "have finite rewards"),
        ):
            for state, action in np.argwhere(~is_right)[:1]:
                found = ", ".join(f"{x:g}" for x in getattr(self, field)[state, action])
                message = f"state {state} and action {action} must {told}, found {found}."
                self._require(False, message)
        mass, least = self.start.sum(), self.start.min()
        told = f"found the sum {mass:g} and the least {least:g}."
        self._require(_are_distributions(self.start), f"start must have {_DISTRIBUTION}, {told}")

    def _check_goal(self) -> None:
        if self.goal is None:
            return
        # Where an outcome ends the episode, it may do so by entering the goal.
        possible = (self.probability > 0) & (~self.terminates | (self.next_state == self.goal))
        is_goal = np.arange(self.num_states) == self.goal
        reaching = spread(is_goal, self.next_state[possible], np.nonzero(possible)[0])
        lost = (self.start > 0) & ~reaching
        self._require(
            not lost.any(),
            f"the goal, state {self.goal}, cannot be reached from the start state "
            f"{np.argmax(lost)} by any action.",
        )


def spread(found: np.ndarray, origin: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`[S]` bool: the states of `found`, and all states that edges lead to from there.

    Args:
      found: `[S]` bool, the states to begin with.
      origin: `[E]` the state that each edge begins in.
      target: `[E]` the state that each edge leads to.
    """
    while True:
        further = found.copy()
        further[target[found[origin]]] = True
        if (further == found).all():
            return found
        found = further


def _are_distributions(x: np.ndarray) -> np.ndarray:
    """`[...]` bool, whether the numbers along the last axis are probabilities that sum to 1."""
    return (np.abs(x.sum(axis=-1) - 1.0) <= _TOLERANCE) & (x >= 0.0).all(axis=-1)
