"""Pictures of environments in characters, for a terminal."""

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

    A board game becomes letters (X for player 0, O for player 1) and a small grid one character for
    each cell. The picture of any other environment is drawn in Braille dots.

    Args:
      spec: the environment's spec.
      timestep: the moment, unbatched, on the host or on a device.
      columns: width of a Braille picture in characters.

    Returns:
      Lines, whose number and length stay the same throughout an episode.
    """
    shape = spec.observation_shape
    if is_board(spec):
        owners = board_owners(timestep)
        return _join(np.array(["X", "O", "."])[owners])
    if len(shape) >= 2 and shape[0] <= _MAX_GRID_ROWS:
        return _join(_grid_characters(as_grid(np.asarray(timestep.observation))))
    return braille(render_frame(spec, timestep), columns)


def _join(characters: np.ndarray) -> str:
    """Puts `[H, W]` characters into lines, with blanks that make the cells about square."""
    return "\n".join(" ".join(row) for row in characters)


def _grid_characters(grid: np.ndarray) -> np.ndarray:
    """The character `[H, W]` of the last channel that is on in `[H, W, C]`, as in pictures."""
    num_channels = grid.shape[-1]
    is_on = grid >= 0.5
    last = num_channels - 1 - np.argmax(is_on[..., ::-1], axis=-1)
    characters = np.array(list(_CHANNEL_CHARACTERS))[last % len(_CHANNEL_CHARACTERS)]
    return np.where(is_on.any(axis=-1), characters, ".")


def braille(image: np.ndarray, columns: int) -> str:
    """Draws an image in Braille, with 2 x 4 dots in each character.

    Args:
      image: `[H, W, 3]` uint8; a dot is set where the colour differs from the most common colour.
      columns: width of the picture in characters.
    """
    height, width, _ = image.shape
    rows = max(round(columns * height / width / 2), 1)
    dots = _ink(image)[np.ix_(_centres(4 * rows, height), _centres(2 * columns, width))]
    cells = dots.reshape(rows, 4, columns, 2).transpose(0, 2, 1, 3)
    codes = 0x2800 + (cells.astype(int) << _DOT_BITS).sum(axis=(2, 3))
    return "\n".join("".join(map(chr, row)) for row in codes)


def _centres(num_parts: int, length: int) -> np.ndarray:
    """The indices in the middle of `num_parts` equal parts of an axis."""
    return (2 * np.arange(num_parts) + 1) * length // (2 * num_parts)


def _ink(image: np.ndarray) -> np.ndarray:
    """`[H, W]` bool, where the image differs clearly from its most common colour."""
    colours, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
    ground = colours[counts.argmax()].astype(int)
    return np.abs(image.astype(int) - ground).sum(axis=-1) > 60
