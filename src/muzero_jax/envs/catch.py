"""Catch: a ball falls down a grid, and a paddle must be under it when it lands."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import Array, PRNGKey, TimeStep
from muzero_jax.envs.base import EnvironmentSpec, make_timestep

_NUM_ACTIONS = 3


class CatchState(struct.PyTreeNode):
    """State of `Catch`.

    Attributes:
      ball_row: `[]` int32 row of the ball; 0 is the top.
      ball_column: `[]` int32 column of the ball.
      paddle_column: `[]` int32 column of the paddle, which stays in the bottom row.
    """

    ball_row: Array
    ball_column: Array
    paddle_column: Array


@dataclasses.dataclass(frozen=True)
class Catch:
    """Catch as in bsuite (Osband et al., 2020, https://arxiv.org/abs/1908.03568, appendix A).

    The ball starts in a random column of the top row and falls one row a step. The paddle starts in
    the middle; actions 0, 1, 2 move it left, not at all, right. When the ball reaches the bottom
    row, after `rows - 1` steps, the episode terminates with reward +1 if the paddle is there and -1
    if not; every other reward is 0. The optimal return is 1 if the farthest column can be reached
    in time, that is if `columns // 2 <= rows - 1`.

    Attributes:
      rows: height of the grid, at least 2.
      columns: width of the grid, at least 1.
    """

    rows: int = 10
    columns: int = 5

    def __post_init__(self) -> None:
        sizes = (self.rows, self.columns)
        if not all(type(size) is int for size in sizes) or self.rows < 2 or self.columns < 1:
            found = f"{self.rows!r} x {self.columns!r}"
            raise ConfigError(f"Catch needs 2 rows and 1 column or more, found {found}.")

    @property
    def spec(self) -> EnvironmentSpec:
        """The static description; the observation is one plane, ball and paddle both True."""
        shape = (self.rows, self.columns, 1)
        return EnvironmentSpec(
            "catch", shape, "bool", _NUM_ACTIONS, max_episode_steps=self.rows - 1
        )

    def reset(self, rng_key: PRNGKey) -> tuple[CatchState, TimeStep]:
        """Drops a ball from a random column. The `rng_key` is consumed."""
        state = CatchState(
            ball_row=jnp.zeros((), jnp.int32),
            ball_column=jax.random.randint(rng_key, (), 0, self.columns, jnp.int32),
            paddle_column=jnp.full((), self.columns // 2, jnp.int32),
        )
        return state, make_timestep(self._observe(state), num_actions=_NUM_ACTIONS)

    def step(
        self, rng_key: PRNGKey, state: CatchState, action: Array
    ) -> tuple[CatchState, TimeStep]:
        """Moves the paddle and the ball; deterministic.

        Args:
          rng_key: not read.
          state: the state before the step.
          action: `[]` int32; the paddle moves by `action - 1`.
        """
        del rng_key
        paddle_column = jnp.clip(state.paddle_column + action - 1, 0, self.columns - 1)
        next_state = state.replace(ball_row=state.ball_row + 1, paddle_column=paddle_column)
        landed = next_state.ball_row == self.rows - 1
        caught = next_state.ball_column == paddle_column
        return next_state, make_timestep(
            self._observe(next_state),
            num_actions=_NUM_ACTIONS,
            reward=jnp.where(landed, jnp.where(caught, 1.0, -1.0), 0.0),
            terminated=landed,
        )

    def _observe(self, state: CatchState) -> Array:
        """Returns `[rows, columns, 1]` bool."""
        grid = jnp.zeros((self.rows, self.columns, 1), bool)
        grid = grid.at[state.ball_row, state.ball_column, 0].set(True)
        return grid.at[self.rows - 1, state.paddle_column, 0].set(True)
