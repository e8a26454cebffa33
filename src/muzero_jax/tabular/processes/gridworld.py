"""Mazes read from a drawing: cells, the walls between them, starts, goals and pits."""

from typing import Literal

import numpy as np

from muzero_jax.tabular.processes.mdp import Grid, InvalidMDPError, TabularMDP

ARROWS = "→←↑↓"
_MOVES = ((0, 1), (0, -1), (-1, 0), (1, 0))

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
    drawing: str = FOUR_ROOMS,
    *,
    reward_on: Literal["leaving", "entering"] = "leaving",
    discount: float = 0.99,
    name: str = "maze",
) -> TabularMDP:
    """A maze whose actions are east, west, north and south.

    A move against a wall leaves one where one is. The goal pays +1 and a pit -1, and both end the
    episode.

    Args:
      drawing: lines of cells between lines of walls, as in `FOUR_ROOMS`: `s` a start, `G` the goal,
        `P` a pit, `.` any other cell; `|` and `-` are walls.
      reward_on: whether the goal and the pits pay on the step that is taken from them, whichever it
        is, and which ends the episode; or on the step that enters them, which then is the last.
      discount: of one step.
      name: for messages.

    Raises:
      InvalidMDPError: the drawing is none, or the goal cannot be reached.
    """
    if reward_on not in ("leaving", "entering"):
        raise InvalidMDPError(
            f"{name}: reward_on must be leaving or entering, found {reward_on!r}."
        )
    lines = _read(drawing, name)
    cells = tuple((r, c) for r in range(len(lines) // 2) for c in range(len(lines[0]) // 2))
    kinds = [lines[2 * r + 1][2 * c + 1] for r, c in cells]
    number = {cell: state for state, cell in enumerate(cells)}
    walls = frozenset(
        (cell, other)
        for cell in cells
        for move in _MOVES
        if (other := _add(cell, move)) in number and _wall_between(lines, cell, move) != " "
    )
    pays = np.array([{"G": 1.0, "P": -1.0}.get(kind, 0.0) for kind in kinds])
    moved = np.array([[_walk(cell, move, number, walls) for move in _MOVES] for cell in cells])
    ends = pays != 0.0
    stays = np.arange(len(cells))[:, None]
    starts = np.array([kind == "s" for kind in kinds])
    leaves = reward_on == "leaving"
    # From an end no action moves: it is left with its reward, or, once entered, without.
    at_end = np.broadcast_to(ends[:, None], moved.shape)
    reward = np.where(at_end, pays[:, None], 0.0) if leaves else np.where(at_end, 0.0, pays[moved])
    return TabularMDP(
        name=name,
        next_state=np.where(at_end, stays, moved)[..., None],
        probability=np.ones((*moved.shape, 1)),
        reward=reward[..., None],
        terminates=(at_end | (not leaves) & ends[moved])[..., None],
        start=starts / starts.sum(),
        discount=discount,
        goal=kinds.index("G"),
        grid=Grid(
            shape=(len(lines) // 2, len(lines[0]) // 2),
            cells=cells,
            arrows=(ARROWS,) * len(cells),
            walls=walls,
            marks=tuple((s, kind) for s, kind in enumerate(kinds) if kind in "GP"),
        ),
    )


def _read(drawing: str, name: str) -> list[str]:
    """The lines of a drawing, all as long."""
    lines = [line.rstrip() for line in drawing.strip("\n").splitlines()]
    width = max(map(len, lines), default=0)
    lines = [line.ljust(width) for line in lines]
    if len(lines) < 3 or width < 3 or not (len(lines) % 2 and width % 2):
        raise InvalidMDPError(
            f"{name}: a drawing has lines of walls around and between lines of cells, an odd "
            f"number of lines of an odd length, found {len(lines)} lines of {width}."
        )
    for row, line in enumerate(lines[1::2]):
        for column, kind in enumerate(line[1::2]):
            if kind not in "sGP.":
                raise InvalidMDPError(
                    f"{name}: a cell is one of s, G, P and ., found {kind!r} in row {row}, "
                    f"column {column}."
                )
    text = "".join(line[1::2] for line in lines[1::2])
    if text.count("G") != 1 or "s" not in text:
        raise InvalidMDPError(
            f"{name}: a drawing needs one goal G and at least one start s, found "
            f"{text.count('G')} and {text.count('s')}."
        )
    return lines


def _add(cell: tuple[int, int], move: tuple[int, int]) -> tuple[int, int]:
    return cell[0] + move[0], cell[1] + move[1]


def _wall_between(lines: list[str], cell: tuple[int, int], move: tuple[int, int]) -> str:
    return lines[2 * cell[0] + 1 + move[0]][2 * cell[1] + 1 + move[1]]


def _walk(
    cell: tuple[int, int],
    move: tuple[int, int],
    number: dict[tuple[int, int], int],
    walls: frozenset[tuple[tuple[int, int], tuple[int, int]]],
) -> int:
    """The state that a move from a cell leads to."""
    other = _add(cell, move)
    is_open = other in number and (cell, other) not in walls
    return number[other] if is_open else number[cell]
