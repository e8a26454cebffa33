"""Pictures of environments, drawn from observations without the renderer of a suite."""

from collections.abc import Callable, Mapping

import numpy as np

from muzero_jax.core.types import TimeStep
from muzero_jax.envs.base import EnvironmentSpec
from muzero_jax.viewing.canvas import Canvas

_PAPER, _INK, _PALE = "#FAFAF7", "#333333", "#D9D9D4"
_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"
# A colour for each channel of a grid: Okabe and Ito's palette, brightened for a dark ground.
_CHANNEL_CODES = "56B4E9 F0E442 E8743B 2FB892 D98CC0 4C86E0 F5F5F5 B08968"
_NIGHT, _NIGHT_LINE, *_CHANNEL_COLOURS = (
    np.array(list(bytes.fromhex(code))) for code in f"1B1E25 2A2E38 {_CHANNEL_CODES}".split()
)
_GRID_SIZE = 240
_MAX_BARS = 64
# Games in which the first two observation planes hold the stones of the player to move and the
# stones of the other player.
_BOARD_GAMES = frozenset({"tic_tac_toe", "connect_four", "othello", "go_9x9", "go_19x19"})


def render_frame(spec: EnvironmentSpec, timestep: TimeStep) -> np.ndarray:
    """Draws one moment of one environment.

    CartPole, Acrobot, MountainCar and board games have pictures of their own. Each channel of
    another grid gets a colour, a stored picture (uint8) is shown unchanged, and a vector of another
    environment becomes bars.

    Args:
      spec: the environment's spec, which says what the observation means.
      timestep: the moment, unbatched, on the host or on a device.

    Returns:
      `[H, W, 3]` uint8, of the same size throughout an episode.

    Raises:
      MissingExtraError: Pillow, which draws all but grids and stored pictures, is not installed.
    """
    observation = np.asarray(timestep.observation)
    name = base_name(spec)
    if name in _VECTOR_PICTURES:
        return _VECTOR_PICTURES[name](observation.astype(np.float64))
    if is_board(spec):
        return _draw_board(board_owners(timestep))
    if observation.dtype == np.uint8 and observation.ndim == 3:
        return _draw_stored_picture(observation)
    if observation.ndim >= 2:
        return _draw_grid(as_grid(observation))
    return _draw_bars(observation.reshape(-1).astype(np.float64))


def base_name(spec: EnvironmentSpec) -> str:
    """The environment's name without its suite."""
    return spec.name.rpartition(":")[2]


def is_board(spec: EnvironmentSpec) -> bool:
    """Whether the environment is a known game with the stones of two players."""
    return base_name(spec) in _BOARD_GAMES and len(spec.observation_shape) == 3


def board_owners(timestep: TimeStep) -> np.ndarray:
    """Who owns each cell of a board game: `[H, W]` int, -1 for nobody, 0 and 1 for the players."""
    stones = np.asarray(timestep.observation)[..., :2] > 0
    to_play = int(timestep.to_play)
    return np.select([stones[..., 0], stones[..., 1]], [to_play, 1 - to_play], -1)


def as_grid(observation: np.ndarray) -> np.ndarray:
    """The observation as `[H, W, C]` float64 in [0, 1]; further axes become channels."""
    grid = observation.reshape(*observation.shape[:2], -1).astype(np.float64)
    return np.clip(grid / (255.0 if observation.dtype == np.uint8 else 1.0), 0.0, 1.0)


def _draw_cartpole(observation: np.ndarray) -> np.ndarray:
    """Draws `[position in metres, velocity, angle in radians, angular velocity]`."""
    canvas = Canvas(200, 320, _PAPER)
    pixels_per_metre, track_y, pole_length, centre = 52.0, 160.0, 100.0, 160.0
    canvas.box(0, track_y - 1, 320, track_y + 1, _PALE)
    for limit in (-2.4, 2.4):
        x = centre + limit * pixels_per_metre
        canvas.box(x - 1, track_y - 8, x + 1, track_y + 8, _PALE)
    x = centre + observation[0] * pixels_per_metre
    canvas.box(x - 26, track_y - 26, x + 26, track_y - 4, _INK)
    for wheel in (-15, 15):
        canvas.disc(x + wheel, track_y - 4, 5, _INK)
    joint, angle = (x, track_y - 26), observation[2]
    tip = (x + pole_length * np.sin(angle), joint[1] - pole_length * np.cos(angle))
    canvas.line([joint, tip], 9, _ORANGE)
    canvas.disc(*joint, 4, _BLUE)
    return canvas.image()


def _draw_acrobot(observation: np.ndarray) -> np.ndarray:
    """Draws `[cos a, sin a, cos b, sin b, ...]`: `a` is 0 hanging down, `b` is 0 when stretched."""
    canvas = Canvas(240, 240, _PAPER)
    length, pivot = 54.0, (120.0, 126.0)
    canvas.box(0, pivot[1] - length - 1, 240, pivot[1] - length + 1, _PALE)
    first = np.arctan2(observation[1], observation[0])
    second = first + np.arctan2(observation[3], observation[2])
    elbow = (pivot[0] + length * np.sin(first), pivot[1] + length * np.cos(first))
    tip = (elbow[0] + length * np.sin(second), elbow[1] + length * np.cos(second))
    canvas.line([pivot, elbow], 10, _BLUE)
    canvas.line([elbow, tip], 10, _ORANGE)
    for x, y in (pivot, elbow):
        canvas.disc(x, y, 5, _INK)
    return canvas.image()


def _draw_mountain_car(observation: np.ndarray) -> np.ndarray:
    """Draws `[position, velocity]` in the valley `sin(3 position)`, with the goal at 0.5."""
    canvas = Canvas(200, 320, _PAPER)

    def place(position: float) -> tuple[float, float]:
        return 10 + (position + 1.2) / 1.8 * 300, 165 - (np.sin(3 * position) + 1) * 58

    canvas.line([place(p) for p in np.linspace(-1.2, 0.6, 40)], 2, _PALE)
    goal_x, goal_y = place(0.5)
    canvas.line([(goal_x, goal_y), (goal_x, goal_y - 32)], 2, _INK)
    canvas.box(goal_x, goal_y - 32, goal_x + 16, goal_y - 20, _GREEN)
    x, y = place(float(observation[0]))
    slope = np.arctan2(-np.cos(3 * observation[0]) * 3 * 58, 300 / 1.8)
    along = np.array([np.cos(slope), np.sin(slope)])
    up = np.array([along[1], -along[0]])
    centre = np.array([x, y]) + 11 * up
    canvas.line([centre - 9 * along, centre + 9 * along], 12, _INK)
    for side in (-9, 9):
        wheel = np.array([x, y]) + 5 * up + side * along
        canvas.disc(wheel[0], wheel[1], 4.5, _ORANGE)
    return canvas.image()


_VECTOR_PICTURES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "CartPole-v1": _draw_cartpole,
    "Acrobot-v1": _draw_acrobot,
    "MountainCar-v0": _draw_mountain_car,
}


def _draw_board(owners: np.ndarray) -> np.ndarray:
    """Draws the stones of player 0 in blue, and the stones of player 1 in orange."""
    height, width = owners.shape
    cell = max(_GRID_SIZE // max(height, width), 8)
    canvas = Canvas(height * cell, width * cell, _PAPER)
    for row in range(1, height):
        canvas.box(4, row * cell - 1, width * cell - 4, row * cell + 1, _PALE)
    for column in range(1, width):
        canvas.box(column * cell - 1, 4, column * cell + 1, height * cell - 4, _PALE)
    for row, column in np.argwhere(owners >= 0):
        colour = _BLUE if owners[row, column] == 0 else _ORANGE
        canvas.disc((column + 0.5) * cell, (row + 0.5) * cell, 0.38 * cell, colour)
    return canvas.image()


def _draw_grid(grid: np.ndarray) -> np.ndarray:
    """Draws `[H, W, C]` in [0, 1] with a colour for each channel; the last channel is on top."""
    height, width, num_channels = grid.shape
    cells = np.full((height, width, 3), _NIGHT, np.float64)
    for channel in range(num_channels):
        colour = _CHANNEL_COLOURS[channel % len(_CHANNEL_COLOURS)]
        cells += grid[..., channel, None] * (colour - cells)
    cell = max(_GRID_SIZE // max(height, width), 1)
    image = np.repeat(np.repeat(cells.round().astype(np.uint8), cell, axis=0), cell, axis=1)
    if cell >= 6:
        image[::cell] = _NIGHT_LINE
        image[:, ::cell] = _NIGHT_LINE
    return image


def _draw_stored_picture(observation: np.ndarray) -> np.ndarray:
    """Shows `[H, W, C]` uint8: three channels as colours, otherwise the last channel in grey."""
    channels = observation if observation.shape[-1] == 3 else observation[..., -1:]
    scale = max(_GRID_SIZE // max(observation.shape[:2]), 1)
    image = np.broadcast_to(channels, (*observation.shape[:2], 3))
    return np.repeat(np.repeat(image, scale, axis=0), scale, axis=1)


def _draw_bars(values: np.ndarray) -> np.ndarray:
    """Draws a bar for each value; the height `v / (1 + |v|)` shows any value on one scale."""
    shown = np.nan_to_num(values[:_MAX_BARS])
    width = max(_GRID_SIZE // max(shown.size, 1), 4)
    height, middle = 160, 80.0
    canvas = Canvas(height, max(width * shown.size, width), _PAPER)
    canvas.box(0, middle - 1, width * shown.size, middle + 1, _PALE)
    for index, value in enumerate(shown):
        end = middle - 70.0 * value / (1.0 + abs(value))
        colour = _BLUE if value >= 0 else _ORANGE
        left, right = (index + 0.15) * width, (index + 0.85) * width
        canvas.box(left, min(middle, end), right, max(middle, end), colour)
    return canvas.image()
