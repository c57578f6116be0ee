"""Figures of matplotlib as SVG that belongs into a page: its colours and letters are the page's own."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

from recsys_lt.results.palette import INK, LINE, MUTED, PAPER, VARIABLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Inches. Narrow, as it is also read on a phone, where letters shrink with the figure.
WIDTH, HEIGHT = 4.3, 3.0
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_STYLE = {
    "svg.fonttype": "none",  # letters, not outlines: small, and set in the reader's own font
    "svg.hashsalt": "recsys_lt",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": INK.light,
    "axes.labelcolor": INK.light,
    "axes.edgecolor": MUTED.light,
    "xtick.color": MUTED.light,
    "ytick.color": MUTED.light,
    "xtick.labelcolor": INK.light,
    "ytick.labelcolor": INK.light,
    "grid.color": LINE.light,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "lines.markeredgecolor": PAPER.light,
    "lines.markeredgewidth": 0.5,
}


@contextmanager
def canvas(width: float = WIDTH, height: float = HEIGHT) -> Iterator[tuple[Figure, Any]]:
    """A figure with one pair of axes in the report's style, which holds inside the block.

    Yields
    ------
    The figure and its axes.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def inline_svg(figure: Figure, alt: str, prefix: str, kind: str = "") -> Markup:
    """A figure as an ``<svg>`` element.

    Parameters
    ----------
    figure
        What was drawn on a ``canvas``, inside its block.
    alt
        What it shows, for who cannot see it; "" for an ornament.
    prefix
        Goes before its ids: those of several figures meet in one page.
    kind
        Its class in the page's style sheet.
    """
    # A canvas of its own: pyplot would keep every figure, and may look for a display.
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", metadata=nothing, transparent=True)
    root = ElementTree.fromstring(text.getvalue())
    used = set(re.findall(r"""(?:url\(#|href="#)([^)"]+)""", text.getvalue()))
    for parent in root.iter():
        for child in list(parent):
            # matplotlib's style is one rule for all there is; the page's style sheet says it of drawings alone.
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        name = element.attrib.pop("id", None)
        if name in used:
            element.set("id", f"{prefix}{name}")
        if (link := element.attrib.pop(_LINK, None)) is not None:
            element.set("href", f"#{prefix}{link.removeprefix('#')}")
        if (clip := element.get("clip-path")) is not None:
            element.set("clip-path", clip.replace("#", f"#{prefix}"))
        if (style := element.get("style")) is not None:
            element.set("style", _of_the_page(style))
        if element.tail is not None:
            element.tail = element.tail.strip()
        if element.tag != "text" and element.text is not None and not element.text.strip():
            element.text = None
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    if kind:
        root.set("class", kind)
    if alt:
        root.set("role", "img")
        root.set("aria-label", alt)
    else:
        root.set("aria-hidden", "true")
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _of_the_page(style: str) -> str:
    style = re.sub(r"#[0-9a-f]{6}\b", lambda found: VARIABLES.get(found[0], found[0]), style)
    style = re.sub(r"font: ([\d.]+px)[^;]*", r"font-size: \1", style)  # the family is the page's
    return style.replace("; ", ";").replace(": ", ":")
