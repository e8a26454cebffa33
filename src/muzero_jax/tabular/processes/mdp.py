"""Finite Markov decision processes as exact arrays, from which environments and oracles are made.

Every state and action has up to `K` *outcomes*: where it may lead, how likely, for which reward,
and whether the episode ends there. That is what a compiled environment draws from and what a
backup sums over; a table `[S, A, S]` can be had of it, and made into it.
"""

import dataclasses

import numpy as np

from muzero_jax.envs.errors import EnvironmentCreationError

_TOLERANCE = 1e-6


class InvalidMDPError(EnvironmentCreationError):
    """The arrays describe no Markov decision process; the message names the state and action."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """How the states lie on a grid, for pictures.

    Attributes:
      shape: rows and columns.
      cells: `[S]` of (row, column), one for each state.
      arrows: `[S]` of `A` characters, how the actions of a state are drawn.
      walls: pairs of neighbouring cells that a wall stands between.
      marks: texts of single states, for example the goal's, by the number of the state.
    """

    shape: tuple[int, int]
    cells: tuple[tuple[int, int], ...]
    arrows: tuple[str, ...]
    walls: frozenset[tuple[tuple[int, int], tuple[int, int]]] = frozenset()
    marks: tuple[tuple[int, str], ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class TabularMDP:
    """A finite Markov decision process with `S` states, `A` actions and `K` outcomes of each pair.

    Attributes:
      name: for messages.
      next_state: `[S, A, K]` int, where an outcome leads; one of the states even where it
        terminates or has no probability, although nothing follows there.
      probability: `[S, A, K]` of the outcomes; sums to 1 over `K`.
      reward: `[S, A, K]`.
      terminates: `[S, A, K]` bool, the episode ends with this outcome.
      start: `[S]` distribution of the first state.
      discount: of one step, in (0, 1].
      goal: a state that must be reachable from every first state; None where there is none.
      grid: how to draw it; None where the states do not lie on a grid.

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
        for field, dtype in _DTYPES.items():
            object.__setattr__(self, field, np.asarray(getattr(self, field), dtype))
        self._check_shapes()
        if not 0.0 < self.discount <= 1.0:
            raise InvalidMDPError(
                f"{self.name}: the discount must be above 0 and at most 1, found {self.discount!r}."
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
        """`[S, A, S]` probability of going on in a state; what is missing to 1 terminates."""
        table = np.zeros((self.num_states, self.num_actions, self.num_states))
        state, action = np.ogrid[: self.num_states, : self.num_actions]
        for k in range(self.num_outcomes):
            going_on = self.probability[..., k] * ~self.terminates[..., k]
            np.add.at(table, (state, action, self.next_state[..., k]), going_on)
        return table

    @property
    def expected_reward(self) -> np.ndarray:
        """`[S, A]`."""
        return (self.probability * self.reward).sum(axis=-1)

    @property
    def is_terminal(self) -> np.ndarray:
        """`[S]` bool, every action ends the episode alike: the state is an end, not a choice."""
        ends = (self.terminates | (self.probability == 0.0)).all(axis=(1, 2))
        return ends & (np.ptp(self.expected_reward, axis=1) == 0.0)

    @property
    def reachable(self) -> np.ndarray:
        """`[S]` bool, the states that an episode can come to."""
        found = self.start > 0
        possible = (self.probability > 0) & ~self.terminates
        while True:
            further = found.copy()
            further[self.next_state[found][possible[found]]] = True
            if (further == found).all():
                return found
            found = further

    def _check_shapes(self) -> None:
        shape = self.next_state.shape
        if len(shape) != 3 or 0 in shape:
            raise InvalidMDPError(
                f"{self.name}: next_state must be [states, actions, outcomes], found shape {shape}."
            )
        for field in ("probability", "reward", "terminates"):
            if (found := getattr(self, field).shape) != shape:
                raise InvalidMDPError(
                    f"{self.name}: {field} has the shape {found}, but next_state {shape}."
                )
        if self.start.shape != shape[:1]:
            raise InvalidMDPError(
                f"{self.name}: start has the shape {self.start.shape}, but there are "
                f"{shape[0]} states."
            )

    def _check_distributions(self) -> None:
        total = self.probability.sum(axis=-1)
        wrong = ~(np.abs(total - 1.0) <= _TOLERANCE) | ~(self.probability >= 0.0).all(axis=-1)
        if wrong.any():
            state, action = np.argwhere(wrong)[0]
            found = ", ".join(f"{p:g}" for p in self.probability[state, action])
            raise InvalidMDPError(
                f"{self.name}: the outcomes of state {state} and action {action} must have "
                f"probabilities of at least 0 that sum to 1, found {found}."
            )
        if not (abs(self.start.sum() - 1.0) <= _TOLERANCE and (self.start >= 0.0).all()):
            raise InvalidMDPError(
                f"{self.name}: start must have probabilities of at least 0 that sum to 1, found "
                f"the sum {self.start.sum():g} and the least {self.start.min():g}."
            )

    def _check_numbers(self) -> None:
        outside = (self.next_state < 0) | (self.next_state >= self.num_states)
        for wrong, told in (
            (outside, "leads outside of the states"),
            (~np.isfinite(self.reward), "has a reward that is not finite"),
        ):
            if wrong.any():
                state, action, k = np.argwhere(wrong)[0]
                found = self.next_state[state, action, k], self.reward[state, action, k]
                raise InvalidMDPError(
                    f"{self.name}: state {state} and action {action} {told}: found the next state "
                    f"{found[0]} of {self.num_states}, and the reward {found[1]:g}."
                )

    def _check_goal(self) -> None:
        if self.goal is None:
            return
        if not 0 <= self.goal < self.num_states:
            raise InvalidMDPError(
                f"{self.name}: the goal {self.goal} is none of {self.num_states} states."
            )
        lost = (self.start > 0) & ~self._reaching(self.goal)
        if lost.any():
            raise InvalidMDPError(
                f"{self.name}: the goal, state {self.goal}, cannot be reached from the start "
                f"state {np.argmax(lost)} by any action."
            )

    def _reaching(self, goal: int) -> np.ndarray:
        """`[S]` bool, the states that some actions may lead from to `goal`."""
        reaching = np.arange(self.num_states) == goal
        # Where an outcome ends the episode, it may do so by entering the goal.
        possible = (self.probability > 0) & (~self.terminates | (self.next_state == goal))
        while True:
            step = (possible & reaching[self.next_state]).any(axis=(1, 2))
            if not (step & ~reaching).any():
                return reaching
            reaching |= step


_DTYPES = {
    "next_state": np.int32,
    "probability": np.float64,
    "reward": np.float64,
    "terminates": np.bool_,
    "start": np.float64,
}
