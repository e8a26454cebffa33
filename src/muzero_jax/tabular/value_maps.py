"""Pictures of values and actions on a grid, side by side or as text."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muzero_jax.reports.extras import import_extra
from muzero_jax.reports.plots import INK, new_figure, save_figure
from muzero_jax.tabular.processes.mdp import Grid

Cell = tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class ValueMap:
    """The values and the actions of the `S` states on one grid.

    Attributes:
      title: text above the map.
      grid: the cells of the states, the walls between cells, and the marks of states. A mark is
        drawn instead of the state's arrows.
      value: `[S]` value of each state; NaN is drawn grey.
      actions: `[S, A]` bool, the actions that are drawn as arrows.
    """

    title: str
    grid: Grid
    value: np.ndarray
    actions: np.ndarray


def draw_value_maps(maps: Sequence[ValueMap], out: Path) -> None:
    """Draws at least one map, side by side, to a PNG in a new or old folder.

    The values of unmarked cells set the range of colours.

    Raises:
      MissingExtraError: matplotlib is not installed.
    """
    # A marked cell, such as a pit, would leave no colours for the others.
    values = [np.delete(one.value, [state for state, _ in one.grid.marks]) for one in maps]
    joined = np.concatenate(values)
    save_figure(_make_figure(maps, (float(np.nanmin(joined)), float(np.nanmax(joined)))), out)


def value_map_image(maps: Sequence[ValueMap], limits: tuple[float, float]) -> np.ndarray:
    """Draws maps side by side to an `[H, W, 3]` uint8 image; `limits` are the range of colours.

    Raises:
      MissingExtraError: matplotlib is not installed.
    """
    figure = _make_figure(maps, limits)
    agg = import_extra("matplotlib.backends.backend_agg", purpose="Plots", package="matplotlib")
    canvas = agg.FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def text_map(drawn: ValueMap, width: int = 6) -> str:
    """Draws a map as text: in each cell a value of `width` characters, and the actions."""
    rows, columns = drawn.grid.shape
    signs = _signs(drawn)
    room = width + max(map(len, signs))
    texts = dict.fromkeys(np.ndindex(rows, columns), " " * room)
    for cell, value, sign in zip(drawn.grid.cells, drawn.value, signs, strict=True):
        texts[cell] = f"{value:{width}.3f}{sign}".ljust(room)
    lines = [_wall_line(drawn.grid, -1, room)]
    for row in range(rows):
        line = "|"
        for column in range(columns):
            is_wall = _is_wall(drawn.grid, (row, column), (row, column + 1))
            line += texts[row, column] + ("|" if is_wall else " ")
        lines += [line, _wall_line(drawn.grid, row, room)]
    return "\n".join(lines)


def _signs(drawn: ValueMap) -> list[str]:
    """The text of each state: its mark, or the arrows of its actions."""
    pairs = zip(drawn.grid.arrows, drawn.actions, strict=True)
    arrows = ["".join(itertools.compress(*pair)) for pair in pairs]
    marks = dict(drawn.grid.marks)
    return [marks.get(state, sign) for state, sign in enumerate(arrows)]


def _wall_line(grid: Grid, row: int, room: int) -> str:
    """The walls between a row and the row below."""
    walls = [_is_wall(grid, (row, column), (row + 1, column)) for column in range(grid.shape[1])]
    return "+" + "".join(("-" if is_wall else " ") * room + "+" for is_wall in walls)


def _is_wall(grid: Grid, cell: Cell, other: Cell) -> bool:
    rows, columns = grid.shape
    at_edge = other[0] == rows or other[1] == columns or cell[0] < 0
    return at_edge or (cell, other) in grid.walls or (other, cell) in grid.walls


def _make_figure(maps: Sequence[ValueMap], limits: tuple[float, float]) -> Any:
    rows, columns = maps[0].grid.shape
    scale = min(0.75, 9.0 / max(rows, columns))
    size = (len(maps) * max(columns * scale, 2.0) + 1.2, max(rows * scale, 1.0) + 0.6)
    figure = new_figure(size)
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for axis, drawn in zip(axes, maps, strict=True):
        image = _draw_map(axis, drawn, limits, scale)
    bar = figure.colorbar(image, ax=list(axes), shrink=0.8)
    bar.outline.set_visible(False)
    bar.set_label("value", color=INK)
    return figure


def _draw_map(axis: Any, drawn: ValueMap, limits: tuple[float, float], scale: float) -> Any:
    rows, columns = drawn.grid.shape
    picture = np.full(drawn.grid.shape, np.nan)
    for cell, value in zip(drawn.grid.cells, drawn.value, strict=True):
        picture[cell] = value
    axis.set_facecolor("#DDDDDD")
    image = axis.imshow(picture, vmin=limits[0], vmax=limits[1], cmap="viridis")
    axis.set_title(drawn.title, fontsize=10, color=INK)
    for cell, other in drawn.grid.walls:
        (row, column), (down, right) = np.add(cell, other) / 2, np.abs(np.subtract(cell, other)) / 2
        ends = [column - down, column + down], [row - right, row + right]
        axis.plot(*ends, color=INK, linewidth=2.5)
    axis.set(xticks=[], yticks=[], xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    _write_cells(axis, drawn, limits, scale)
    return image


def _write_cells(axis: Any, drawn: ValueMap, limits: tuple[float, float], scale: float) -> None:
    middle = (limits[0] + limits[1]) / 2
    for (row, column), value, sign in zip(
        drawn.grid.cells, drawn.value, _signs(drawn), strict=True
    ):
        ink = INK if value > middle else "white"
        style = {"ha": "center", "color": ink}
        axis.text(column, row, sign, va="bottom", fontsize=16 * scale, **style)
        if scale > 0.4:
            number = f"{value:.2f}"
            axis.text(column, row + 0.1, number, va="top", fontsize=11 * scale, **style)
