"""Colours and axes of the studies' figures."""

from typing import Any

BLUE, ORANGE, GREY = "#1f5fa8", "#d1601a", "#666666"
LIGHT_BLUE = "#7fa3cf"


def verbatim(text: str) -> str:
    """A name as matplotlib draws it letter by letter: between dollars it would read mathematics."""
    return text.replace("$", r"\$")


def tidy(axes: Any) -> None:
    """No box around the axes, and faint lines across."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
