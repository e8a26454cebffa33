"""SVG charts that stretch with the page, while their text and their dots keep their size.

Across the page, places are shares of the width, from 0 to 1; downwards they are pixels. So the same
chart is right in a window of 420 pixels and in one of 1280. Lines through many points lie in an
inner SVG that is stretched without its strokes.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias
from xml.sax.saxutils import escape

from muzero_jax.reports.scales import Scale, number_text

TEXT_PIXELS = 12
"""Size of all text in charts."""
WIDTHS = (280, 360, 520, 760, 1150)
"""Widths in pixels at which charts are laid out: the least is that of the drawing area of a chart
in a window of 420 pixels, and the largest that in a window of 1280 pixels."""
RIGHT_PIXELS = 12
"""Room right of a chart for the half of the last number below it."""
INK, MUTED, GRID, PALE = "#222222", "#666666", "#E6E6E6", "#C0C6D0"
# Of a character, as a share of the size of the text; digits have 0.56 in most fonts.
_CHARACTER = 0.6
_STRETCHED = 1000

Anchor: TypeAlias = Literal["start", "middle", "end"]
_BEFORE_ANCHOR: dict[Anchor, float] = {"start": 0.0, "middle": 0.5, "end": 1.0}

CHART_STYLE = f"""
.chart svg {{ overflow: visible; display: block; }}
.chart text {{ font-size: {TEXT_PIXELS}px; fill: {INK}; }}
.chart text.quiet {{ fill: {MUTED}; }}
.chart path, .chart line {{ vector-effect: non-scaling-stroke; fill: none; }}
.axis {{ color: {MUTED}; font-size: {TEXT_PIXELS}px; line-height: 16px;
  max-width: none; }}
.axis.below {{ text-align: center; margin-top: 24px; }}
.axis.above {{ margin: 4px 0 10px; }}
"""


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
      text: what is written.
      share: where it is anchored across the chart, 0 at the left edge and 1 at the right one.
      y: its baseline in pixels from the top.
      anchor: which part of the text lies at `share`.
      shift: pixels by which the text is moved to the right.
      is_quiet: whether it is grey.
    """

    text: str
    share: float
    y: float
    anchor: Anchor = "middle"
    shift: float = 0.0
    is_quiet: bool = False

    def box(self, width: float) -> Box:
        """What the text and the least distance from others cover, in a chart of `width` pixels."""
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
      share: its centre across the chart, 0 at the left edge and 1 at the right one.
      y: its centre in pixels from the top.
      radius: in pixels.
      colour: of the circle.
      title: what is shown where the mouse rests.
    """

    share: float
    y: float
    radius: float
    colour: str
    title: str

    def box(self, width: float) -> Box:
        """What the dot covers in a chart that is `width` pixels wide."""
        x = self.share * width
        return Box(x - self.radius, x + self.radius, self.y - self.radius, self.y + self.radius)

    def svg(self) -> str:
        """The SVG element."""
        return (
            f'<circle cx="{_percent(self.share)}" cy="{self.y:.1f}" r="{self.radius:g}" '
            f'fill="{self.colour}">{_title(self.title)}</circle>'
        )


class Block(NamedTuple):
    """A rectangle that no text shall touch.

    Attributes:
      left: its left edge across the chart, 0 at the left edge of the chart and 1 at the right one.
      right: its right edge, alike.
      top: its upper edge in pixels from the top of the chart.
      bottom: its lower edge, alike.
    """

    left: float
    right: float
    top: float
    bottom: float

    def box(self, width: float) -> Box:
        """What the rectangle covers in a chart that is `width` pixels wide."""
        return Box(self.left * width - 2, self.right * width + 2, self.top - 2, self.bottom + 2)


Placed: TypeAlias = Words | Dot | Block


def text_width(text: str) -> float:
    """How many pixels a text is wide, rather too many than too few."""
    return _CHARACTER * TEXT_PIXELS * len(text)


def fits(words: Words, others: Iterable[Placed]) -> bool:
    """Whether a text touches none of the others, however wide the chart is."""
    return not any(
        words.box(width).touches(other.box(width)) for other in others for width in WIDTHS
    )


def is_inside(words: Words, beyond: float = 0) -> bool:
    """Whether a text stays within the chart, however wide the chart is.

    Args:
      words: the text.
      beyond: pixels right of the chart that the text may cover too.
    """
    boxes = [(width, words.box(width)) for width in WIDTHS]
    return all(box.left >= -2 and box.right <= width + beyond + 2 for width, box in boxes)


def centred(
    text: str, share: float, y: float, *, beyond: float = 0, is_quiet: bool = False
) -> Words:
    """A text in the middle of its place, or beside it where it would leave the chart.

    Args:
      text: what is written.
      share: its place across the chart.
      y: its baseline in pixels from the top.
      beyond: pixels right of the chart that the text may cover too.
      is_quiet: whether it is grey.
    """
    words = Words(text, share, y, is_quiet=is_quiet)
    if is_inside(words, beyond):
        return words
    return words._replace(anchor="start" if share < 0.5 else "end")


def segment(
    start: tuple[float, float], end: tuple[float, float], colour: str, width: float = 1
) -> str:
    """A straight line.

    Args:
      start: its beginning, as a share across the chart and pixels from the top.
      end: its end, alike.
      colour: of the stroke.
      width: of the stroke in pixels.
    """
    (x1, y1), (x2, y2) = start, end
    return (
        f'<line x1="{_percent(x1)}" y1="{y1:.1f}" x2="{_percent(x2)}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width:g}"/>'
    )


def path(
    pieces: Iterable[Sequence[tuple[float, float]]],
    *,
    stroke: str = "none",
    width: float = 1,
    fill: str = "none",
    title: str = "",
) -> str:
    """A line of any number of pieces, to be put into `stretched`.

    Args:
      pieces: the points of each piece, as shares across the chart and pixels from the top.
      stroke: colour of the line.
      width: of the line in pixels.
      fill: colour of what it encloses, which is drawn pale.
      title: what is shown where the mouse rests.
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
    """The outer SVG of a chart or of a part of it, `height` pixels high."""
    return f'<svg width="100%" height="{height:g}">{"".join(content)}</svg>'


def ticks_below(scale: Scale, y: float) -> list[Words]:
    """The numbers below a horizontal axis.

    Args:
      scale: of the axis.
      y: baseline of the numbers in pixels from the top.
    """
    placed: list[Words] = []
    for value in scale.ticks():
        text, share = number_text(value), scale.share(value)
        words = centred(text, share, y, beyond=RIGHT_PIXELS, is_quiet=True)
        if fits(words, placed):
            placed.append(words)
    return placed


def plot(content: str, x: Scale, y: Scale, *, labels: tuple[str, str], height: float) -> str:
    """A chart with a horizontal and a vertical axis, whose numbers stand outside of it.

    Args:
      content: SVG elements of the drawing area.
      x: scale of the horizontal axis.
      y: scale of the vertical axis.
      labels: what the horizontal and the vertical axis show.
      height: of the drawing area in pixels.
    """
    heights = {value: height * (1 - y.share(value)) for value in y.ticks()}
    names = [
        Words(number_text(value), 0, place + 4, "end", -8, is_quiet=True)
        for value, place in heights.items()
    ]
    grid = [segment((0, place), (1, place), GRID) for place in heights.values()]
    grid += [segment((x.share(v), 0), (x.share(v), height), GRID) for v in x.ticks()]
    written = [words.svg() for words in [*names, *ticks_below(x, height + 18)]]
    left = max((text_width(words.text) for words in names), default=0) + 8
    return (
        f'<div class="chart"><p class="axis above">{escape(labels[1])}</p>'
        f'<div style="padding: 0 {RIGHT_PIXELS}px 0 {left:.0f}px">'
        f"{canvas([*grid, content, *written], height)}</div>"
        f'<p class="axis below">{escape(labels[0])}</p></div>'
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""
