"""Figures in one style, sized for a paper: colours for light and dark paper, saving as PNG, PDF or SVG of a page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from recsys_lt.system.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Colour(NamedTuple):
    """A colour's name in CSS, and its value on light and on dark paper.

    Figures are drawn for light paper. Their SVG then names the colour, not its value: one drawing serves both papers.
    """

    name: str
    light: str
    dark: str


INK = Colour("ink", "#1b1f24", "#e8eaed")
MUTED = Colour("muted", "#57606a", "#a3acb6")
LINE = Colour("line", "#d8dde3", "#3a414b")
PAPER = Colour("paper", "#fdfdfe", "#15181c")
PANEL = Colour("panel", "#f3f5f8", "#1f242a")
ACCENT = Colour("accent", "#0b5cad", "#7cb7f5")
BAD = Colour("bad", "#b3261e", "#ff9a8f")
#: Cells without a colour of their own.
OTHERS = Colour("others", "#a9b0b8", "#69727d")
#: After Okabe and Ito, who chose hues that colour-blind readers tell apart; darkened on light paper and lightened on
#: dark, so that a thin line of each stands out from it.
CELLS = (
    Colour("cell-1", "#0072b2", "#4ba3e3"),
    Colour("cell-2", "#d55e00", "#ff8a4c"),
    Colour("cell-3", "#009e73", "#34c89a"),
    Colour("cell-4", "#b5488a", "#ec8fc4"),
    Colour("cell-5", "#2e9fd0", "#9bdcfa"),
    Colour("cell-6", "#b47b00", "#f0bf4c"),
    Colour("cell-7", "#5b3a8c", "#b79cf0"),
    Colour("cell-8", "#7a5230", "#c9a27e"),
)
GREY = MUTED.light
COLOURS = (INK, MUTED, LINE, PAPER, PANEL, ACCENT, BAD, OTHERS, *CELLS)

#: Value in a drawing -> what the page writes for it.
VARIABLES = {colour.light: f"var(--{colour.name})" for colour in COLOURS}


class Look(NamedTuple):
    """Look of a line and its points.

    ``text`` is its label in the figure. ``coloured`` is False for one of many, which is drawn thin and grey.
    """

    text: str
    colour: Colour
    dash: Any = "-"
    mark: str = "o"
    coloured: bool = True


#: Inches: a paper's column and its page of two columns. A phone, where letters shrink with the figure, has a column.
COLUMN, PAGE = 3.3, 7.0
HEIGHT = 2.4
_METADATA = ("Creator", "Date", "Format", "Type")
_STYLE = {
    "pdf.fonttype": 42,  # TrueType, which publishers ask for
    "svg.fonttype": "none",  # letters, not outlines: small, and set in the reader's own font
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8,
    "figure.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
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
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "lines.markeredgecolor": PAPER.light,
    "lines.markeredgewidth": 0.5,
}


@contextmanager
def blank(width: float = COLUMN, height: float = HEIGHT) -> Iterator[Figure]:
    """An empty figure, in a style that holds inside the block; the size is in inches."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        # A canvas of its own: pyplot would keep every figure of a sweep, and may look for a display.
        FigureCanvasAgg(figure)
        yield figure


@contextmanager
def canvas(
    width: float = COLUMN, height: float = HEIGHT, ratios: Sequence[float] = (1,), columns: int = 1
) -> Iterator[tuple[Figure, Any]]:
    """A figure and its axes, as ``blank``.

    ``ratios`` are relative heights of the rows of panels. One panel is an ``Axes``, several are an array of them. In a
    single column the panels share their horizontal axis.
    """
    with blank(width, height) as figure:
        yield figure, figure.subplots(len(ratios), columns, sharex=columns == 1, height_ratios=ratios)


def save(figure: Figure, *paths: Path) -> None:
    """Write a figure to files, as PNG or PDF by their names; called inside the block of its ``canvas``."""
    for path in paths:
        with replacing(path) as draft:
            options = {"metadata": {"CreationDate": None}} if path.suffix == ".pdf" else {"dpi": 300}
            figure.savefig(draft, format=path.suffix[1:], facecolor="white", **options)


def inline_svg(figure: Figure, alt: str, prefix: str, kind: str = "") -> Markup:
    """A figure as an ``<svg>`` element; called inside the block of its ``canvas``.

    ``alt`` is its description for readers who cannot see it, "" for an ornament. The ``prefix`` of its ids keeps the
    figures of a page apart; ``kind`` is its class in the page's style sheet.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    text = io.StringIO()
    with rc_context({"svg.hashsalt": prefix}):
        figure.savefig(text, format="svg", metadata=dict.fromkeys(_METADATA), transparent=True)
    # matplotlib's style sheet would apply to the whole page, which has its own rules for drawings.
    svg = re.sub(r"(?s)^.*?<svg|<(metadata|style)\b.*?</\1>", "", text.getvalue())
    used = set(re.findall(r"""(?:url\(#|href="#)([^)"]+)""", svg))

    def in_page(tag: re.Match[str]) -> str:
        """A tag with the page's colours, and an id only where a part of the drawing refers to it."""
        words = re.sub(r' id="([^"]*)"', lambda name: name[0] if name[1] in used else "", tag[0])
        words = re.sub(r"#[0-9a-f]{6}\b", lambda found: VARIABLES.get(found[0], found[0]), words)
        return words.replace("xlink:href", "href")

    svg = re.sub(r"<[^>]+>", in_page, re.sub(r">\s+<", "><", svg))
    about = Markup('role="img" aria-label="{}"').format(alt) if alt else 'aria-hidden="true"'
    width, height = 72 * figure.get_size_inches()
    return Markup(f'<svg viewBox="0 0 {width:g} {height:g}" class="{kind}" {about}>{svg.partition(">")[2]}')
