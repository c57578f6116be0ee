"""What a section of the report shows: a drawing with its words, its key and its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from recsys_lt.results.cast import Member, cells
from recsys_lt.results.drawing import canvas, inline_svg
from recsys_lt.results.palette import MUTED

if TYPE_CHECKING:
    from recsys_lt.results.written_tables import Content


@dataclass(frozen=True)
class Illustration:
    """One figure of the report.

    Parameters
    ----------
    title
        What it is.
    caption
        What it shows and how to read it, in a sentence or two.
    svg
        The drawing; None where nothing could be drawn, and ``lacking`` says why.
    numbers
        What was drawn, as a table.
    lacking
        What is not in it, and why: a line each.
    """

    title: str
    caption: str
    svg: Markup | None = None
    numbers: Content | None = None
    lacking: tuple[str, ...] = field(default=())


@cache
def swatch(colour: str, dash: Any, mark: str) -> Markup:
    """A piece of a cell's line with its mark, for keys and tables."""
    with canvas(0.42, 0.18) as (figure, axes):
        axes.set_axis_off()
        axes.plot([0, 2], [0, 0], color=colour, linestyle=dash)
        axes.plot([1], [0], mark, color=colour, markersize=6)
        axes.set_xlim(-0.1, 2.1)
        return inline_svg(figure, "", "swatch-", "swatch")


def cell_line(axes: Any, member: Member, xs: Sequence[float], ys: Sequence[float]) -> None:
    """Draw a cell's line with its marks, thinner where it is one of the grey ones."""
    axes.plot(
        xs, ys, color=member.colour.light, linestyle=member.dash, marker=member.mark,
        linewidth=1.4 if member.coloured else 0.8, markersize=4.5 if member.coloured else 2.5,
    )  # fmt: skip


def at_the_ends(axes: Any, ends: Sequence[tuple[Member, float, float]]) -> None:
    """Write each cell's number where its line ends, at x and y; those that end last, right of the axes and apart."""
    low, high = axes.get_ylim()
    last = max((x for _, x, _ in ends), default=0.0)
    beside(axes, [end for end in ends if end[1] < 0.9 * last], AFTER)
    ordered = sorted((end for end in ends if end[1] >= 0.9 * last), key=lambda end: end[2])
    places = apart([(y - low) / (high - low) for *_, y in ordered], 0.06)
    for (member, *_), place in zip(ordered, places, strict=True):
        axes.text(
            1.015, place, f"{member.number}", transform=axes.transAxes, va="center", fontsize=8.5,
            color=member.colour.light,
        )  # fmt: skip


#: Where a number may stand beside its point: columns out from it, a label's width each, and points up; the best first.
AROUND = (
    *((1, 6), (-1, 6), (1, -7), (-1, -7), (0, 11), (0, -12), (2, 0), (-2, 0)),
    *((side, up) for up in (14, -15, 22, -23) for side in (1, -1, 2, -2)),
)
AFTER = tuple((column, up) for column in (1, 2, 3) for up in (0, 9, -9, 18, -18, 27, -27))
_SIZE, _SMALL = 8.5, 7.0  # of the numbers' letters, points


def beside(axes: Any, points: Sequence[tuple[Member, float, float]], where: Sequence[tuple[int, int]]) -> None:
    """Write each cell's number where no other point or number is; a grey cell that has no such place goes without."""
    axes.figure.draw_without_rendering()  # lays out: only then is it known where points lie on the paper
    scale = axes.figure.dpi / 72
    places = [tuple(axes.transData.transform((x, y)) / scale) for _, x, y in points]
    taken = [(px, py, 2.5) for px, py in places]  # the middle of each, and half its width
    pairs = sorted(zip(points, places, strict=True), key=lambda pair: not pair[0][0].coloured)
    for (member, x, y), (px, py) in pairs:
        size = _SIZE if member.coloured else _SMALL
        half = 0.32 * size * len(str(member.number))  # a digit is 0.64 of the letters' size wide
        near = where if member.coloured else where[:8]  # far out, a grey number would be nobody's
        offsets = [(_across(column, half), up) for column, up in near]
        free = [
            (dx, dy) for dx, dy in offsets
            if all(abs(px + dx - a) > half + width + 0.5 or abs(py + dy - b) > 7 for a, b, width in taken)
        ]  # fmt: skip
        if not free and not member.coloured:
            continue
        dx, dy = free[0] if free else offsets[0]
        taken.append((px + dx, py + dy, half))
        axes.annotate(
            f"{member.number}", (x, y), (dx, dy), textcoords="offset points", ha="center", va="center",
            color=member.colour.light if member.coloured else MUTED.light, fontsize=size,
        )  # fmt: skip


def _across(column: int, half: float) -> float:
    """How far out the middle of a label lies in that column, in points."""
    return 0.0 if column == 0 else (1 if column > 0 else -1) * (4.5 + half + (abs(column) - 1) * (2 * half + 2))


def apart(places: Sequence[float], distance: float) -> list[float]:
    """Ascending places in 0..1, moved as little as it takes to be so far apart."""
    moved: list[float] = []
    for place in places:
        moved.append(place if not moved else max(place, moved[-1] + distance))
    highest = 1.0
    for n in reversed(range(len(moved))):
        moved[n] = min(moved[n], highest)
        highest = moved[n] - distance
    return moved


def left_grey(members: Sequence[Member]) -> str:
    """What to say of the cells without a colour of their own; "" where all have one."""
    grey = [member for member in members if not member.coloured and member.cell.finished]
    if not grey:
        return ""
    coloured = sum(member.coloured for member in members)
    return (
        f" Colours mark the reference and the best of each model, loss and optimizer ({coloured} in all); the other "
        f"{len(grey)} cells are grey."
    )


def lacking(members: Sequence[Member], what: str) -> tuple[str, ...]:
    """One line that says which cells' runs hold no ``what``; none where there are no such cells."""
    if not members:
        return ()
    names = f" ({members[0].name})" if len(members) == 1 else ""
    return (f"Not drawn, as the runs hold no {what}: {cells([member.number for member in members])}{names}.",)
