"""SVG charts that stretch with the page, while their text and their dots keep their size.

Across the page, places are shares of the width, from 0 to 1; downwards they are pixels. So one
chart is right in a window of 420 pixels and in one of 1280. Lines through many points lie in an
inner SVG, which is stretched without its strokes.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias
from xml.sax.saxutils import escape

from muzero_jax.reports.plots import GRID
from muzero_jax.reports.scales import Scale, number_text

TEXT_PIXELS = 12
"""Size of all text in charts, as in `sweep_report.css`."""
WIDTHS = (280, 360, 520, 760, 1150)
"""Widths in pixels at which charts are laid out, from the drawing area in a window of 420 pixels to
the drawing area in a window of 1280 pixels."""
RIGHT_PIXELS = 12
"""Room at the right of a chart for one half of the last number below the chart."""
PALE = "#C0C6D0"
# Width of a character as a share of the size of the text; a digit has 0.56 in most fonts.
_CHARACTER = 0.6
_STRETCHED = 1000

Point: TypeAlias = tuple[float, float]
"""A place in a chart: a share of the width and pixels from the top."""
Anchor: TypeAlias = Literal["start", "middle", "end"]
_BEFORE_ANCHOR: dict[Anchor, float] = {"start": 0.0, "middle": 0.5, "end": 1.0}


class Box(NamedTuple):
    """A rectangle in pixels, from `left` to `right` and from `top` to `bottom`."""

    left: float
    right: float
    top: float
    bottom: float

    def touches(self, other: "Box") -> bool:
        """Whether the two rectangles overlap."""
        is_beside = self.right <= other.left or other.right <= self.left
        return not (is_beside or self.bottom <= other.top or other.bottom <= self.top)


class Words(NamedTuple):
    """A piece of text in a chart.

    Attributes:
      text: the text.
      share: place of the anchor across the chart, 0 at the left edge and 1 at the right edge.
      y: baseline in pixels from the top.
      anchor: which part of the text lies at `share`.
      shift: pixels by which the text is moved to the right.
      is_quiet: whether the text is grey.
    """

    text: str
    share: float
    y: float
    anchor: Anchor = "middle"
    shift: float = 0.0
    is_quiet: bool = False

    def box(self, width: float) -> Box:
        """The text with the room that it keeps free, in a chart that is `width` pixels wide."""
        length = text_width(self.text)
        left = self.share * width + self.shift - _BEFORE_ANCHOR[self.anchor] * length
        return Box(left - 2, left + length + 2, self.y - TEXT_PIXELS, self.y + 3)

    def svg(self) -> str:
        """The SVG element."""
        kind = ' class="quiet"' if self.is_quiet else ""
        shift = f' dx="{self.shift:g}"' if self.shift else ""
        return (
            f'<text x="{_percent(self.share)}" y="{self.y:g}"{shift}{kind} '
            f'text-anchor="{self.anchor}">{escape(self.text)}</text>'
        )


class Dot(NamedTuple):
    """A filled circle.

    Attributes:
      share: place of the centre across the chart, 0 at the left edge and 1 at the right edge.
      y: pixels from the top to the centre.
      radius: radius in pixels.
      colour: colour of the circle.
      title: text that is shown where the mouse rests on the circle.
    """

    share: float
    y: float
    radius: float
    colour: str
    title: str

    def box(self, width: float) -> Box:
        """The square around the dot, in a chart that is `width` pixels wide."""
        x = self.share * width
        return Box(x - self.radius, x + self.radius, self.y - self.radius, self.y + self.radius)

    def svg(self) -> str:
        """The SVG element."""
        return (
            f'<circle cx="{_percent(self.share)}" cy="{self.y:.1f}" r="{self.radius:g}" '
            f'fill="{self.colour}">{_title(self.title)}</circle>'
        )


class Block(NamedTuple):
    """A rectangle that no text shall touch: from its left end to its right end."""

    start: Point
    end: Point

    def box(self, width: float) -> Box:
        """The rectangle with a margin, in a chart that is `width` pixels wide."""
        (left, y1), (right, y2) = self
        return Box(left * width - 2, right * width + 2, min(y1, y2) - 2, max(y1, y2) + 2)


Placed: TypeAlias = Words | Dot | Block


def text_width(text: str) -> float:
    """Estimates how many pixels wide a text is, rather too many than too few."""
    return _CHARACTER * TEXT_PIXELS * len(text)


def first_fitting(places: Iterable[Words], others: Sequence[Placed]) -> list[Words]:
    """The first place where a text touches none of the others in a chart of any width.

    Returns:
      A list of one text, or an empty list where the text fits into no place.
    """
    pairs = list(itertools.product(others, WIDTHS))
    fitting = (
        words
        for words in places
        if not any(words.box(width).touches(other.box(width)) for other, width in pairs)
    )
    return list(itertools.islice(fitting, 1))


def is_inside(words: Words, beyond: float = 0) -> bool:
    """Whether a text stays within a chart of any width and `beyond` pixels at its right."""
    boxes = [(width, words.box(width)) for width in WIDTHS]
    return all(box.left >= -2 and box.right <= width + beyond + 2 for width, box in boxes)


def kept_inside(words: Words, beyond: float = 0) -> Words:
    """The text, moved to one side of its place unless `is_inside` holds."""
    if is_inside(words, beyond):
        return words
    return words._replace(anchor="start" if words.share < 0.5 else "end")


def segment(start: Point, end: Point, colour: str, width: float = 1) -> str:
    """A straight line.

    Args:
      start: one end of the line.
      end: the other end of the line.
      colour: colour of the stroke.
      width: width of the stroke in pixels.
    """
    (x1, y1), (x2, y2) = start, end
    return (
        f'<line x1="{_percent(x1)}" y1="{y1:.1f}" x2="{_percent(x2)}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width:g}"/>'
    )


def path(
    pieces: Iterable[Sequence[Point]],
    *,
    stroke: str = "none",
    width: float = 1,
    fill: str = "none",
    title: str = "",
) -> str:
    """A line of any number of pieces, to be put into `stretched`.

    Args:
      pieces: the points of each piece.
      stroke: colour of the line.
      width: width of the line in pixels.
      fill: colour of the area that the line encloses, which is drawn pale.
      title: text that is shown where the mouse rests on the line.
    """
    drawn = " ".join(
        "M" + " L".join(f"{_STRETCHED * x:.1f} {y:.1f}" for x, y in piece) for piece in pieces
    )
    filled = f' style="fill:{fill}" fill-opacity="0.15"' if fill != "none" else ""
    return (
        f'<path d="{drawn}" stroke="{stroke}" stroke-width="{width:g}"{filled}>'
        f"{_title(title)}</path>"
    )


def stretched(paths: Iterable[str], height: float) -> str:
    """The inner SVG that stretches paths to the width of the chart."""
    return (
        f'<svg width="100%" height="{height:g}" viewBox="0 0 {_STRETCHED} {height:g}" '
        f'preserveAspectRatio="none">{"".join(paths)}</svg>'
    )


def canvas(content: Iterable[str], height: float) -> str:
    """The outer SVG of a chart or of a part of a chart, `height` pixels high."""
    return f'<svg width="100%" height="{height:g}">{"".join(content)}</svg>'


def ticks_below(scale: Scale, y: float) -> list[Words]:
    """The numbers below a horizontal axis, with their baseline `y` pixels from the top."""
    placed: list[Words] = []
    for value in scale.ticks():
        words = Words(number_text(value), scale.share(value), y, is_quiet=True)
        placed += first_fitting([kept_inside(words, beyond=RIGHT_PIXELS)], placed)
    return placed


class Plane(NamedTuple):
    """The drawing area between a horizontal and a vertical axis.

    Attributes:
      x: scale of the horizontal axis.
      y: scale of the vertical axis.
      height: height in pixels.
    """

    x: Scale
    y: Scale
    height: float

    def point(self, x: float, y: float) -> Point:
        """The place of a pair of numbers."""
        return self.x.share(x), self.height * (1 - self.y.share(y))

    def chart(self, content: Iterable[str], x_label: str, y_label: str) -> str:
        """The whole chart, with the numbers of the axes outside of the drawing area.

        Args:
          content: SVG elements of the drawing area.
          x_label: what the horizontal axis shows.
          y_label: what the vertical axis shows.
        """
        heights = {value: self.point(self.x.low, value)[1] for value in self.y.ticks()}
        names = [
            Words(number_text(value), 0, place + 4, "end", -8, is_quiet=True)
            for value, place in heights.items()
        ]
        grid = [segment((0, place), (1, place), GRID) for place in heights.values()]
        grid += vertical_lines(self.x, self.height)
        written = [words.svg() for words in [*names, *ticks_below(self.x, self.height + 18)]]
        left = max((text_width(words.text) for words in names), default=0) + 8
        return (
            f'<div class="chart"><p class="axis above">{escape(y_label)}</p>'
            f'<div style="padding: 0 {RIGHT_PIXELS}px 0 {left:.0f}px">'
            f"{canvas([*grid, *content, *written], self.height)}</div>"
            f'<p class="axis below">{escape(x_label)}</p></div>'
        )


def vertical_lines(scale: Scale, height: float) -> list[str]:
    """The lines of the grid above the numbers of a horizontal axis, `height` pixels high."""
    shares = [scale.share(value) for value in scale.ticks()]
    return [segment((share, 0), (share, height), GRID) for share in shares]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""
