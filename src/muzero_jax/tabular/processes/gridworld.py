"""Mazes that are read from a drawing: cells, walls between them, starts, a goal and pits."""

from typing import Literal

import numpy as np

from muzero_jax.core.checks import require_type
from muzero_jax.tabular.processes.mdp import Cell, Grid, InvalidMDPError, TabularMDP, Walls

_ARROWS = "→←↑↓"
_MOVES = ((0, 1), (0, -1), (-1, 0), (1, 0))
RewardOn = Literal["leaving", "entering"]

FOUR_ROOMS = """
+-+-+-+-+-+-+
|s s s|. . P|
+ + + + + + +
|s s s . . .|
+ + + + + + +
|s s s|. . .|
+ +-+-+-+ +-+
|. . . . . .|
+ + + + + + +
|. . .|. G .|
+ + + + + + +
|. . .|. . .|
+-+-+-+-+-+-+
"""
"""Four rooms of nine cells: the maze of https://github.com/wulfebw/muzero."""


def maze_mdp(
    drawing: str = FOUR_ROOMS, *, reward_on: RewardOn = "leaving", discount: float = 0.99
) -> TabularMDP:
    """A maze whose actions are east, west, north and south.

    A move against a wall changes nothing. The goal pays +1 and a pit -1, and both end the episode.

    Args:
      drawing: lines of cells between lines of walls, as in `FOUR_ROOMS`: `s` a start, `G` the goal,
        `P` a pit, `.` any other cell; `|` and `-` are walls.
      reward_on: when the goal and the pits pay and end the episode. `leaving`: on the step that is
        taken in them, whichever it is. `entering`: on the step that enters them.
      discount: discount of one step.

    Raises:
      ConfigError: the drawing is not a maze, its goal cannot be reached, or `reward_on` is neither.
    """
    require_type("reward_on", reward_on, RewardOn)
    lines = _read(drawing)
    shape = len(lines) // 2, len(lines[0]) // 2
    cells, kinds = tuple(np.ndindex(shape)), "".join(line[1::2] for line in lines[1::2])
    moved, walls = _moves(lines, cells)
    pays = np.array([{"G": 1.0, "P": -1.0}.get(kind, 0.0) for kind in kinds])
    ends, starts = pays != 0.0, np.array(list(kinds)) == "s"
    marks = tuple((state, kind) for state, kind in enumerate(kinds) if kind in "GP")
    # No action moves at the goal or in a pit: it pays there, or has paid when it was entered.
    at_end = np.broadcast_to(ends[:, None], moved.shape)
    if reward_on == "leaving":
        reward, terminates = np.where(at_end, pays[:, None], 0.0), at_end
    else:
        reward, terminates = np.where(at_end, 0.0, pays[moved]), at_end | ends[moved]
    return TabularMDP(
        name="maze",
        next_state=np.where(at_end, np.arange(len(cells))[:, None], moved),
        probability=np.ones(moved.shape),
        reward=reward,
        terminates=terminates,
        start=starts / starts.sum(),
        discount=discount,
        goal=kinds.index("G"),
        grid=Grid(shape, cells, (_ARROWS,) * len(cells), walls, marks),
    )


def _read(drawing: str) -> list[str]:
    """The lines of a drawing, padded to one length."""
    lines = [line.rstrip() for line in drawing.strip("\n").splitlines()]
    width = max(map(len, lines), default=0)
    lines = [line.ljust(width) for line in lines]
    if len(lines) < 3 or width < 3 or not (len(lines) % 2 and width % 2):
        raise InvalidMDPError(
            "maze: a drawing has lines of walls around and between lines of cells, an odd "
            f"number of lines of an odd length, found {len(lines)} lines of {width}."
        )
    text = "".join(line[1::2] for line in lines[1::2])
    if set(text) - set("sGP.") or text.count("G") != 1 or "s" not in text:
        raise InvalidMDPError(
            "maze: the cells of a drawing are one goal G, at least one start s, and pits P and "
            f"other cells ., found {text!r}."
        )
    return lines


def _moves(lines: list[str], cells: tuple[Cell, ...]) -> tuple[np.ndarray, Walls]:
    """`[S, 4]` states that the moves lead to, and pairs of cells with a wall between them."""
    number = {cell: state for state, cell in enumerate(cells)}
    moved = np.tile(np.arange(len(cells))[:, None], len(_MOVES))
    walls = set()
    for state, (row, column) in enumerate(cells):
        for action, (down, right) in enumerate(_MOVES):
            other = row + down, column + right
            if other not in number:
                continue
            if lines[2 * row + 1 + down][2 * column + 1 + right] != " ":
                walls.add(((row, column), other))
            else:
                moved[state, action] = number[other]
    return moved, frozenset(walls)
