"""Smooth shapes on an image, drawn by Pillow at four times the size."""

import types
from collections.abc import Sequence

import numpy as np

from muzero_jax.reports.extras import import_extra

_FINE = 4


def pillow(module: str) -> types.ModuleType:
    """Imports a module of Pillow.

    Raises:
      MissingExtraError: Pillow is not installed.
    """
    return import_extra(f"PIL.{module}", purpose="Pictures", package="pillow")


class Canvas:
    """An image to draw shapes on; `x` goes right and `y` down, in pixels from the top left corner.

    Args:
      height: height in pixels.
      width: width in pixels.
      colour: colour of the ground; all colours are `#RRGGBB`.

    Raises:
      MissingExtraError: Pillow is not installed.
    """

    def __init__(self, height: int, width: int, colour: str):
        self._image = pillow("Image").new("RGB", (_FINE * width, _FINE * height), colour)
        self._draw = pillow("ImageDraw").Draw(self._image)

    def image(self) -> np.ndarray:
        """`[height, width, 3]` uint8."""
        return np.array(self._image.reduce(_FINE))

    def box(self, left: float, top: float, right: float, bottom: float, colour: str) -> None:
        """Fills a rectangle.

        Args:
          left: left edge.
          top: upper edge.
          right: right edge.
          bottom: lower edge.
          colour: colour of the rectangle.
        """
        ends = round(_FINE * right) - 1, round(_FINE * bottom) - 1
        starts = round(_FINE * left), round(_FINE * top)
        if starts[0] <= ends[0] and starts[1] <= ends[1]:
            self._draw.rectangle([starts, ends], colour)

    def disc(self, x: float, y: float, radius: float, colour: str) -> None:
        """Fills a circle.

        Args:
          x: horizontal place of the centre.
          y: vertical place of the centre.
          radius: radius of the circle.
          colour: colour of the circle.
        """
        self._draw.circle((_FINE * x, _FINE * y), _FINE * radius, colour)

    def line(self, points: Sequence[tuple[float, float]], width: float, colour: str) -> None:
        """Draws straight lines with round ends from point to point.

        Args:
          points: horizontal and vertical place of each point.
          width: width of the lines.
          colour: colour of the lines.
        """
        places = [(_FINE * x, _FINE * y) for x, y in points]
        self._draw.line(places, colour, width=round(_FINE * width))
        for point in points:
            self.disc(*point, width / 2, colour)
