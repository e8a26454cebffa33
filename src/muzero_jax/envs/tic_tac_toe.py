"""Tic-tac-toe: the smallest two-player game, with a legal-action mask."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import struct

from muzero_jax.core.types import Array, PRNGKey, TimeStep
from muzero_jax.envs.base import EnvironmentSpec, make_timestep

_NUM_CELLS = 9
# Cells are numbered row by row from the top left.
_LINES = np.array(
    [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]]
)


class TicTacToeState(struct.PyTreeNode):
    """State of `TicTacToe`.

    Attributes:
      stones: `[2, 9]` bool, whether each player holds each cell.
      to_play: `[]` int32, the player who moves next.
    """

    stones: Array
    to_play: Array


@dataclasses.dataclass(frozen=True)
class TicTacToe:
    """Tic-tac-toe; player 0 moves first, action `3 * row + column` claims a cell.

    The winner gets +1 and the loser -1, and a draw gives 0 to both. A player who claims a taken
    cell loses at once. The observation is `[3, 3, 2]` bool: the stones of the player to move, then
    the stones of the other player. At a terminal state every action counts as legal, so that a
    policy computed there is finite. With best play by both players the game is a draw.
    """

    @property
    def spec(self) -> EnvironmentSpec:
        """The static description."""
        return EnvironmentSpec(
            "tic_tac_toe", (3, 3, 2), "bool", _NUM_CELLS, 2, max_episode_steps=_NUM_CELLS
        )

    def reset(self, rng_key: PRNGKey) -> tuple[TicTacToeState, TimeStep]:
        """Clears the board; deterministic."""
        del rng_key
        state = TicTacToeState(jnp.zeros((2, _NUM_CELLS), bool), jnp.zeros((), jnp.int32))
        return state, make_timestep(_observe(state), num_actions=_NUM_CELLS, reward=jnp.zeros(2))

    def step(
        self, rng_key: PRNGKey, state: TicTacToeState, action: Array
    ) -> tuple[TicTacToeState, TimeStep]:
        """Claims a cell for the player to move; deterministic.

        Args:
          rng_key: not read.
          state: the state before the step.
          action: `[]` int32 number of the cell.
        """
        del rng_key
        mover = state.to_play
        legal = ~state.stones[:, action].any()
        stones = state.stones.at[mover, action].max(legal)
        won = stones[mover][_LINES].all(axis=-1).any()
        free = ~stones.any(axis=0)
        terminated = won | ~legal | ~free.any()
        mover_reward = jnp.where(legal, jnp.where(won, 1.0, 0.0), -1.0)
        next_state = TicTacToeState(stones=stones, to_play=1 - mover)
        return next_state, make_timestep(
            _observe(next_state),
            num_actions=_NUM_CELLS,
            reward=jnp.where(jnp.arange(2) == mover, mover_reward, -mover_reward),
            terminated=terminated,
            legal_action_mask=free | terminated,
            to_play=next_state.to_play,
        )


def _observe(state: TicTacToeState) -> Array:
    """`[3, 3, 2]` bool, the stones of the player to move and of the other player."""
    own, other = state.stones[state.to_play], state.stones[1 - state.to_play]
    return jnp.stack([own, other], axis=-1).reshape(3, 3, 2)
