"""Figures of an HTML page: SVG by matplotlib, drawn once for each width that a page may have.

The style sheet shows the drawing that fits the page, so that text is about 12 pixels high in a
window of 420 pixels and in one of 1280.
"""

import io
import re
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from muzero_jax.reports.extras import import_extra
from muzero_jax.reports.plots import new_figure

TEXT_PIXELS = 12
WIDTHS = {"narrow": 350, "middle": 560, "broad": 1150}
"""Widths of the drawings in pixels, by the name of their class in `sweep_report.css`."""
_TITLE = "title: "
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SVG = "{http://www.w3.org/2000/svg}"
ElementTree.register_namespace("", _SVG[1:-1])
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")


def page_figure(name: str, draw: Callable[[Any, int], float], *, is_wide: bool = False) -> str:
    """Draws a figure for a page.

    Args:
      name: what the figure shows; unique on the page.
      draw: draws on matplotlib's axes, whose figure has a width in pixels; returns the height of
        the figure in pixels.
      is_wide: whether the figure extends over a wide page, and not over one half of it.

    Raises:
      MissingExtraError: matplotlib is not installed.
    """
    matplotlib = import_extra("matplotlib", purpose="Reports", package="matplotlib")
    # A stranger's text is no formula, even where it holds dollar signs.
    style = {"font.size": TEXT_PIXELS, "svg.fonttype": "none", "text.parse_math": False}
    style |= {"font.sans-serif": ["DejaVu Sans"], "svg.hashsalt": name}
    kinds = [kind for kind in WIDTHS if is_wide or kind != "broad"]
    # matplotlib warns of letters that its font lacks, which a browser has.
    with warnings.catch_warnings(action="ignore"), matplotlib.rc_context(style):
        drawings = [_drawing(name, draw, kind) for kind in kinds]
    return f'<div class="figure">{"".join(drawings)}</div>'


def titled(text: str) -> dict[str, str]:
    """An argument of matplotlib: the element shows `text` where the mouse rests on it."""
    return {"gid": f"{_TITLE}{text}"}


def _drawing(name: str, draw: Callable[[Any, int], float], kind: str) -> str:
    # A figure has 72 pixels an inch in matplotlib's SVG.
    figure = new_figure((WIDTHS[kind] / 72, 1))
    figure.set_figheight(draw(figure.subplots(), WIDTHS[kind]) / 72)
    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", metadata=nothing)
    root = ElementTree.fromstring(_NOT_XML.sub("�", text.getvalue()))
    for group in root.iter(f"{_SVG}g"):
        told = group.attrib.pop("id", "")
        if told.startswith(_TITLE):
            title = ElementTree.Element(f"{_SVG}title")
            title.text = told.removeprefix(_TITLE)
            group.insert(0, title)
    root.attrib = {"viewBox": root.attrib["viewBox"], "class": kind, "role": "img"}
    root.set("aria-label", name)
    return ElementTree.tostring(root, encoding="unicode")
