"""Smooth shapes on a NumPy image, so that drawing an environment needs no graphics library."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

Colour: TypeAlias = tuple[int, int, int]
SignedDistance: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From pixel centres `x [1, W]` and `y [H, 1]` to the distance from a shape, negative inside."""


def parse_colour(code: str) -> Colour:
    """Reads `#RRGGBB`."""
    red, green, blue = bytes.fromhex(code.removeprefix("#"))
    return red, green, blue


class Canvas:
    """An image to draw shapes on; `x` goes right and `y` down, in pixels from the top left corner.

    Edges are antialiased: the distance from a pixel to the edge decides how much of it is covered.
    """

    def __init__(self, height: int, width: int, colour: Colour):
        self._pixels = np.full((height, width, 3), colour, np.float32)

    def image(self) -> np.ndarray:
        """`[height, width, 3]` uint8, a copy."""
        return np.round(self._pixels).astype(np.uint8)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Fills a circle.

        Args:
          x: horizontal place of the centre.
          y: vertical place of the centre.
          radius: radius of the circle.
          colour: colour of the circle.
        """
        self.line([(x, y), (x, y)], 2 * radius, colour)

    def ring(self, x: float, y: float, radius: float, width: float, colour: Colour) -> None:
        """Draws a circle.

        Args:
          x: horizontal place of the centre.
          y: vertical place of the centre.
          radius: distance from the centre to the middle of the line.
          width: width of the line.
          colour: colour of the line.
        """
        reach = radius + width / 2

        def distance(px: np.ndarray, py: np.ndarray) -> np.ndarray:
            return np.abs(np.hypot(px - x, py - y) - radius) - width / 2

        self._fill((x - reach, y - reach, x + reach, y + reach), distance, colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fills a rectangle.

        Args:
          left: left edge.
          top: upper edge.
          right: right edge.
          bottom: lower edge.
          colour: colour of the rectangle.
        """

        def distance(px: np.ndarray, py: np.ndarray) -> np.ndarray:
            outside_x = np.maximum(left - px, px - right)
            return np.maximum(outside_x, np.maximum(top - py, py - bottom))

        self._fill((left, top, right, bottom), distance, colour)

    def line(self, points: Sequence[tuple[float, float]], width: float, colour: Colour) -> None:
        """Draws straight lines with round ends from point to point.

        Args:
          points: horizontal and vertical place of each point.
          width: width of the lines.
          colour: colour of the lines.
        """
        for start, end in itertools.pairwise(points):
            self._segment(start, end, width / 2, colour)

    def _segment(
        self, start: tuple[float, float], end: tuple[float, float], reach: float, colour: Colour
    ) -> None:
        (x0, y0), (x1, y1) = start, end
        squared = max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-12)

        def distance(px: np.ndarray, py: np.ndarray) -> np.ndarray:
            along = ((px - x0) * (x1 - x0) + (py - y0) * (y1 - y0)) / squared
            share = np.clip(along, 0.0, 1.0)
            return np.hypot(px - x0 - share * (x1 - x0), py - y0 - share * (y1 - y0)) - reach

        left, right = min(x0, x1) - reach, max(x0, x1) + reach
        top, bottom = min(y0, y1) - reach, max(y0, y1) + reach
        self._fill((left, top, right, bottom), distance, colour)

    def _fill(
        self,
        bounds: tuple[float, float, float, float],
        signed_distance: SignedDistance,
        colour: Colour,
    ) -> None:
        """Blends a shape in; outside of `bounds` (left, top, right, bottom) nothing changes."""
        height, width, _ = self._pixels.shape
        left, top = max(math.floor(bounds[0]) - 1, 0), max(math.floor(bounds[1]) - 1, 0)
        right, bottom = min(math.ceil(bounds[2]) + 1, width), min(math.ceil(bounds[3]) + 1, height)
        if left >= right or top >= bottom:
            return
        x = np.arange(left, right, dtype=np.float32)[None] + 0.5
        y = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5
        coverage = np.clip(0.5 - signed_distance(x, y), 0.0, 1.0)[..., None]
        region = self._pixels[top:bottom, left:right]
        region += coverage * (np.asarray(colour, np.float32) - region)
