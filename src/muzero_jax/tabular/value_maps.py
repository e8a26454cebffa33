"""Pictures of values and actions on a grid, side by side or as text."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muzero_jax.reports.extras import import_extra
from muzero_jax.reports.plots import INK, new_figure, save_figure
from muzero_jax.tabular.processes.mdp import Cell, Grid


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

    @property
    def signs(self) -> list[str]:
        """The text of each state: its mark, or the arrows of its actions."""
        pairs = zip(self.grid.arrows, self.actions, strict=True)
        marks = dict(self.grid.marks)
        arrows = ["".join(itertools.compress(*pair)) for pair in pairs]
        return [marks.get(state, sign) for state, sign in enumerate(arrows)]


def draw_value_map(drawn: ValueMap, out: Path) -> None:
    """Draws a map to a PNG in a new or old folder.

    The values of unmarked cells set the range of colours: a marked cell, such as a pit, would leave
    no colours for the others.

    Raises:
      MissingExtraError: matplotlib is not installed.
    """
    values = np.delete(drawn.value, [state for state, _ in drawn.grid.marks])
    save_figure(_make_figure([drawn], (float(np.nanmin(values)), float(np.nanmax(values)))), out)


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
    room = width + max(map(len, drawn.signs))
    texts = dict.fromkeys(np.ndindex(rows, columns), " " * room)
    for cell, value, sign in zip(drawn.grid.cells, drawn.value, drawn.signs, strict=True):
        texts[cell] = f"{value:{width}.3f}{sign}".ljust(room)
    lines = []
    for row in range(-1, rows):
        line, below = "|", "+"
        for column in range(columns):
            cell = row, column
            line += texts.get(cell, "") + _wall(drawn.grid, cell, (row, column + 1), "|")
            below += _wall(drawn.grid, cell, (row + 1, column), "-") * room + "+"
        lines += [line, below]
    return "\n".join(lines[1:])


def _wall(grid: Grid, cell: Cell, other: Cell, sign: str) -> str:
    """`sign` where a wall stands between two cells, or the grid ends; otherwise a blank."""
    rows, columns = grid.shape
    at_edge = other[0] == rows or other[1] == columns or cell[0] < 0
    return sign if at_edge or (cell, other) in grid.walls else " "


def _make_figure(maps: Sequence[ValueMap], limits: tuple[float, float]) -> Any:
    rows, columns = maps[0].grid.shape
    scale = min(0.75, 9.0 / max(rows, columns))
    figure = new_figure((len(maps) * max(columns * scale, 2.0) + 1.2, max(rows * scale, 1.0) + 0.6))
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    images = [_draw_map(*pair, limits, scale) for pair in zip(axes, maps, strict=True)]
    bar = figure.colorbar(images[-1], ax=list(axes), shrink=0.8)
    bar.outline.set_visible(False)
    bar.set_label("value", color=INK)
    return figure


def _draw_map(axis: Any, drawn: ValueMap, limits: tuple[float, float], scale: float) -> Any:
    rows, columns = drawn.grid.shape
    picture = np.full(drawn.grid.shape, np.nan)
    picture[tuple(np.transpose(drawn.grid.cells))] = drawn.value
    axis.set_facecolor("#DDDDDD")
    image = axis.imshow(picture, vmin=limits[0], vmax=limits[1], cmap="viridis")
    axis.set_title(drawn.title, fontsize=10, color=INK)
    for cell, other in drawn.grid.walls:
        (row, column), (down, right) = np.add(cell, other) / 2, np.abs(np.subtract(cell, other)) / 2
        ends = [column - down, column + down], [row - right, row + right]
        axis.plot(*ends, color=INK, linewidth=2.5)
    axis.set(xticks=[], yticks=[], xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    for (row, column), value, sign in zip(drawn.grid.cells, drawn.value, drawn.signs, strict=True):
        style = {"ha": "center", "color": INK if value > sum(limits) / 2 else "white"}
        axis.text(column, row, sign, va="bottom", fontsize=16 * scale, **style)
        if scale > 0.4:
            place = column, row + 0.1
            axis.text(*place, f"{value:.2f}", va="top", fontsize=11 * scale, **style)
    return image
