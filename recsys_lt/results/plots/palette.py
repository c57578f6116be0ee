"""Colours of figures and of the report's page, each for light and for dark paper.

Figures are drawn in the light ones. Their SVG then names the colour, not its value, so that one drawing serves both.
"""

from typing import Any, NamedTuple


class Colour(NamedTuple):
    """A colour's name in CSS, and its value on light and on dark paper."""

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
_ALL = (INK, MUTED, LINE, PAPER, PANEL, ACCENT, BAD, OTHERS, *CELLS)

#: Value in a drawing -> what the page writes for it.
VARIABLES = {colour.light: f"var(--{colour.name})" for colour in _ALL}


def css() -> tuple[str, str]:
    """The colours as CSS declarations, for light and for dark paper."""
    light = "".join(f"--{c.name}:{c.light};" for c in _ALL)
    return light, "".join(f"--{c.name}:{c.dark};" for c in _ALL)


class Look(NamedTuple):
    """Look of a line and its points.

    ``text`` is its label in the figure. ``coloured`` is False for one of many, which is drawn thin and grey.
    """

    text: str
    colour: Colour
    dash: Any = "-"
    mark: str = "o"
    coloured: bool = True
