"""Finite Markov decision processes as exact arrays, from which environments and oracles are made.

Every state and action has up to `K` *outcomes*: a next state, its probability, a reward, and
whether the episode ends. A compiled environment draws from the outcomes, and a backup sums over
them. `TabularMDP.transition` and `mdp_from_table` convert to and from a table `[S, A, S]`.
"""

import dataclasses
from typing import TypeAlias

import numpy as np

from muzero_jax.envs.errors import EnvironmentCreationError

Cell: TypeAlias = tuple[int, int]
Walls: TypeAlias = frozenset[tuple[Cell, Cell]]

_TOLERANCE = 1e-6
_DTYPES = {
    "next_state": np.int32,
    "probability": np.float64,
    "reward": np.float64,
    "terminates": np.bool_,
    "start": np.float64,
}


class InvalidMDPError(EnvironmentCreationError):
    """The arrays describe no Markov decision process; the message names the state and action."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """How the states lie on a grid, for pictures.

    Attributes:
      shape: numbers of rows and columns.
      cells: `[S]` the (row, column) of each state.
      arrows: `[S]` a text of `A` characters for each state, which show its actions.
      walls: pairs of neighbouring cells that a wall stands between.
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
      InvalidMDPError: shapes do not match, probabilities are no distribution, a state or the
        discount is out of range, or the goal cannot be reached.
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
        for field, dtype in _DTYPES.items():
            array: np.ndarray = np.asarray(getattr(self, field), dtype)
            is_expanded = has_one_outcome and field != "start"
            object.__setattr__(self, field, array[..., None] if is_expanded else array)
        self._check_shapes()
        self._require(
            0.0 < self.discount <= 1.0,
            f"the discount must be above 0 and at most 1, found {self.discount!r}.",
        )
        self._check_distributions()
        self._check_numbers()
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
        state, action = np.ogrid[: self.num_states, : self.num_actions]
        for k in range(self.num_outcomes):
            going_on = self.probability[..., k] * ~self.terminates[..., k]
            np.add.at(table, (state, action, self.next_state[..., k]), going_on)
        return table

    @property
    def expected_reward(self) -> np.ndarray:
        """`[S, A]` mean rewards."""
        return (self.probability * self.reward).sum(axis=-1)

    @property
    def reachable(self) -> np.ndarray:
        """`[S]` bool, whether an episode can come to the state."""
        found = self.start > 0
        possible = (self.probability > 0) & ~self.terminates
        while True:
            further = found.copy()
            further[self.next_state[found][possible[found]]] = True
            if (further == found).all():
                return found
            found = further

    def _require(self, condition: object, message: str) -> None:
        if not condition:
            raise InvalidMDPError(f"{self.name}: {message}")

    def _check_shapes(self) -> None:
        shape = self.next_state.shape
        self._require(
            len(shape) == 3 and 0 not in shape,
            f"next_state must be [states, actions, outcomes], found shape {shape}.",
        )
        for field in ("probability", "reward", "terminates"):
            found = getattr(self, field).shape
            self._require(found == shape, f"{field} has the shape {found}, but next_state {shape}.")
        self._require(
            self.start.shape == shape[:1],
            f"start has the shape {self.start.shape}, but there are {shape[0]} states.",
        )

    def _check_distributions(self) -> None:
        total = self.probability.sum(axis=-1)
        wrong = ~(np.abs(total - 1.0) <= _TOLERANCE) | ~(self.probability >= 0.0).all(axis=-1)
        for state, action in np.argwhere(wrong)[:1]:
            found = ", ".join(f"{p:g}" for p in self.probability[state, action])
            self._require(
                False,
                f"the outcomes of state {state} and action {action} must have probabilities of at "
                f"least 0 that sum to 1, found {found}.",
            )
        mass, least = self.start.sum(), self.start.min()
        self._require(
            abs(mass - 1.0) <= _TOLERANCE and least >= 0.0,
            "start must have probabilities of at least 0 that sum to 1, found the sum "
            f"{mass:g} and the least {least:g}.",
        )

    def _check_numbers(self) -> None:
        outside = (self.next_state < 0) | (self.next_state >= self.num_states)
        for wrong, told in (
            (outside, "leads outside of the states"),
            (~np.isfinite(self.reward), "has a reward that is not finite"),
        ):
            for state, action, k in np.argwhere(wrong)[:1]:
                self._require(
                    False,
                    f"state {state} and action {action} {told}: found the next state "
                    f"{self.next_state[state, action, k]} of {self.num_states}, and the reward "
                    f"{self.reward[state, action, k]:g}.",
                )

    def _check_goal(self) -> None:
        if self.goal is None:
            return
        self._require(
            0 <= self.goal < self.num_states,
            f"the goal {self.goal} is none of {self.num_states} states.",
        )
        lost = (self.start > 0) & ~self._reaching(self.goal)
        self._require(
            not lost.any(),
            f"the goal, state {self.goal}, cannot be reached from the start state "
            f"{np.argmax(lost)} by any action.",
        )

    def _reaching(self, goal: int) -> np.ndarray:
        """`[S]` bool, whether some actions may lead from the state to `goal`."""
        reaching = np.arange(self.num_states) == goal
        # Where an outcome ends the episode, it may do so by entering the goal.
        possible = (self.probability > 0) & (~self.terminates | (self.next_state == goal))
        while True:
            step = (possible & reaching[self.next_state]).any(axis=(1, 2))
            if not (step & ~reaching).any():
                return reaching
            reaching |= step
