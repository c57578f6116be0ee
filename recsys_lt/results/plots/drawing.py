"""Figures in one style, saved as PNG or as SVG in the colours and the font of the report's page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

from recsys_lt.results.plots.palette import INK, LINE, MUTED, PAPER, VARIABLES
from recsys_lt.system.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Inches. Narrow, as it is also read on a phone, where letters shrink with the figure.
WIDTH, HEIGHT = 4.3, 3.0
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_STYLE = {
    "svg.fonttype": "none",  # letters, not outlines: small, and set in the reader's own font
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.hashsalt": "recsys_lt",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.title_fontsize": 8,
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
def canvas(
    width: float = WIDTH, height: float = HEIGHT, ratios: Sequence[float] = (1,), columns: int = 1
) -> Iterator[tuple[Figure, Any]]:
    """A figure and its axes, in a style that holds inside the block; the size is in inches.

    ``ratios`` are relative heights of the rows of panels. One panel is an ``Axes``, several are an array of them. In a
    single column the panels share their horizontal axis.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(len(ratios), columns, sharex=columns == 1, height_ratios=ratios)


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file; called inside the block of its ``canvas``."""
    # A canvas of its own: pyplot would keep every figure of a sweep, and may look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with replacing(Path(path)) as draft:
        figure.savefig(draft, format="png", dpi=200, facecolor="white")


def inline_svg(figure: Figure, alt: str, prefix: str, kind: str = "") -> Markup:
    """A figure as an ``<svg>`` element; called inside the block of its ``canvas``.

    ``alt`` is its description for readers who cannot see it, "" for an ornament. The ``prefix`` of its ids keeps the
    figures of a page apart; ``kind`` is its class in the page's style sheet.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", metadata=nothing, transparent=True)
    root = ElementTree.fromstring(text.getvalue())
    used = set(re.findall(r"""(?:url\(#|href="#)([^)"]+)""", text.getvalue()))
    for parent in root.iter():
        for child in list(parent):
            # matplotlib's style sheet would apply to the whole page, which has its own rule for drawings.
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
