"""The same pictures as `envs.render` in characters, for a terminal."""

import numpy as np

from muzero_jax.core.types import TimeStep
from muzero_jax.envs.base import EnvironmentSpec
from muzero_jax.viewing.render import as_grid, board_owners, is_board, render_frame

# One character for each channel of a grid.
_CHANNEL_CHARACTERS = "o@#+x*%&=~"
# Bit of each dot of a Braille character, 4 rows of 2, as Unicode numbers them from U+2800.
_DOT_BITS = np.array([[0, 3], [1, 4], [2, 5], [6, 7]])
_MAX_GRID_ROWS = 32


def render_text(spec: EnvironmentSpec, timestep: TimeStep, *, columns: int = 48) -> str:
    """Draws one moment of one environment in characters.

    Boards become letters (X for player 0, O for player 1), small grids one character a cell, and
    everything else the picture of `render_frame` in Braille dots.

    Args:
      spec: of the environment.
      timestep: unbatched, on the host or on a device.
      columns: width of a Braille picture in characters.

    Returns:
      Lines, of the same number and length throughout an episode.
    """
    shape = spec.observation_shape
    if is_board(spec):
        owners = board_owners(timestep)
        return _join(np.array(["X", "O", "."])[owners])
    if len(shape) >= 2 and shape[0] <= _MAX_GRID_ROWS:
        return _join(_grid_characters(as_grid(np.asarray(timestep.observation))))
    return braille(render_frame(spec, timestep), columns)


def _join(characters: np.ndarray) -> str:
    """Puts `[H, W]` characters into lines, spread to about square cells."""
    return "\n".join(" ".join(row) for row in characters)


def _grid_characters(grid: np.ndarray) -> np.ndarray:
    """`[H, W]` characters of `[H, W, C]` in [0, 1]: the last channel that is on, as in pictures."""
    num_channels = grid.shape[-1]
    is_on = grid >= 0.5
    last = num_channels - 1 - np.argmax(is_on[..., ::-1], axis=-1)
    characters = np.array(list(_CHANNEL_CHARACTERS))[last % len(_CHANNEL_CHARACTERS)]
    return np.where(is_on.any(axis=-1), characters, ".")


def braille(image: np.ndarray, columns: int) -> str:
    """Draws what stands out from the ground of an image in Braille, 2 x 4 dots a character.

    Args:
      image: `[H, W, 3]` uint8; its most common colour is the ground.
      columns: width in characters.
    """
    height, width, _ = image.shape
    rows = max(round(columns * height / width / 2), 1)
    dots = _ink(image)[np.ix_(_centres(4 * rows, height), _centres(2 * columns, width))]
    cells = dots.reshape(rows, 4, columns, 2).transpose(0, 2, 1, 3)
    codes = 0x2800 + (cells.astype(int) << _DOT_BITS).sum(axis=(2, 3))
    return "\n".join("".join(map(chr, row)) for row in codes)


def _centres(num_parts: int, length: int) -> np.ndarray:
    """Indices of the middles of `num_parts` equal parts of an axis."""
    return (2 * np.arange(num_parts) + 1) * length // (2 * num_parts)


def _ink(image: np.ndarray) -> np.ndarray:
    """`[H, W]` bool, where the image differs clearly from its most common colour."""
    colours, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
    ground = colours[counts.argmax()].astype(int)
    return np.abs(image.astype(int) - ground).sum(axis=-1) > 60
