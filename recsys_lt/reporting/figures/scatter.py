"""A point a cell: what it gives on one side against what it costs or gives on another."""

from collections.abc import Callable, Sequence
from typing import Any

from recsys_lt.analysis.cells import Cell
from recsys_lt.reporting.cast import Member
from recsys_lt.reporting.drawing import canvas, inline_svg
from recsys_lt.reporting.illustration import Illustration, lacking, left_grey
from recsys_lt.reporting.palette import MUTED

MeanStd = tuple[float | None, float | None]


def scatter(
    members: Sequence[Member],
    across: tuple[str, Callable[[Cell], MeanStd]],
    up: tuple[str, Callable[[Cell], MeanStd]],
    title: str,
    caption: str,
    what: str,
    prefix: str,
    orders: bool = False,
) -> Illustration:
    """Draw the cells that have both sides, with their numbers and their spread over seeds.

    Parameters
    ----------
    members
        Cells of one dataset.
    across, up
        What each axis says, and its mean and spread for a cell.
    title, caption
        Of the figure.
    what
        What a cell that is not drawn lacks.
    prefix
        For the ids in the drawing.
    orders
        Whether ``across`` may run over orders of magnitude.
    """
    ran = [member for member in members if member.cell.finished]
    places = {member.number: (across[1](member.cell), up[1](member.cell)) for member in ran}
    drawn = [m for m in ran if all(mean is not None for mean, _ in places[m.number])]
    missing = lacking([member for member in ran if member not in drawn], what)
    if not drawn:
        return Illustration(title, "", lacking=missing or ("Not drawn: no run has finished.",))
    if len(ran) == 1:
        (x, _), (y, _) = places[ran[0].number]
        words = f"Not drawn, as there is one configuration: {across[0]} {x:.4g}, {up[0]} {y:.4g}."
        return Illustration(title, "", lacking=(words,))
    with canvas() as (figure, axes):
        for member in sorted(drawn, key=lambda member: member.coloured):
            (x, dx), (y, dy) = places[member.number]
            colour = member.colour.light
            axes.errorbar(
                x, y, xerr=dx, yerr=dy, fmt=member.mark, color=colour, elinewidth=0.9,
                markersize=6.5 if member.coloured else 4,
            )  # fmt: skip
        means = [mean for member in drawn if (mean := places[member.number][0][0]) is not None]
        if orders and min(means) > 0 and max(means) > 5 * min(means):
            axes.set_xscale("log")
        axes.margins(0.12)
        axes.set_xlabel(across[0])
        axes.set_ylabel(up[0])
        figure.draw_without_rendering()  # lays out: only then is it known where points lie on the paper
        _number(axes, [(member, places[member.number]) for member in drawn])
        svg = inline_svg(figure, f"Scatter plot, a point a cell: {up[0]} against {across[0]}", prefix)
    if any(len(member.cell.finished) > 1 for member in drawn):
        caption += " Bars: standard deviation over seeds."
    return Illustration(title, caption + left_grey(drawn), svg, lacking=missing)


#: Where a number may stand beside its point, in points of type.
_BESIDE = ((7, 6), (-7, 6), (7, -7), (-7, -7), (0, 11), (0, -12), (14, 0), (-14, 0))


def _number(axes: Any, drawn: Sequence[tuple[Member, tuple[MeanStd, MeanStd]]]) -> None:
    """Write each cell's number where no other point or number is; a grey cell that has no such place goes without."""
    points = [axes.transData.transform((x, y)) for _, ((x, _), (y, _)) in drawn]
    taken = [(float(x), float(y)) for x, y in points]
    scale = axes.figure.dpi / 72
    for (member, ((x, _), (y, _))), (px, py) in sorted(
        zip(drawn, points, strict=True), key=lambda d: not d[0][0].coloured
    ):
        free = [
            (dx, dy) for dx, dy in _BESIDE
            if all(abs(px + dx * scale - a) > 8 * scale or abs(py + dy * scale - b) > 7 * scale for a, b in taken)
        ]  # fmt: skip
        if not free and not member.coloured:
            continue
        dx, dy = free[0] if free else _BESIDE[0]
        taken.append((float(px + dx * scale), float(py + dy * scale)))
        axes.annotate(
            f"{member.number}", (x, y), (dx, dy), textcoords="offset points", ha="center", va="center",
            color=member.colour.light if member.coloured else MUTED.light, fontsize=8.5 if member.coloured else 7,
        )  # fmt: skip
