"""A point a cell: what it gives on one side against what it costs or gives on another."""

from collections.abc import Callable, Sequence

from recsys_lt.results.cast import Member
from recsys_lt.results.cells import Cell
from recsys_lt.results.drawing import canvas, inline_svg
from recsys_lt.results.illustration import AROUND, Illustration, beside, lacking, left_grey

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
        from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

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
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5))  # 0.0825 is long
        axes.margins(0.12)
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -0.03 * high), high)  # nothing that is drawn is below 0
        axes.set_xlabel(across[0])
        axes.set_ylabel(up[0])
        numbers = [(member, x, y) for member in drawn for (x, _), (y, _) in [places[member.number]]]
        beside(axes, [(member, x, y) for member, x, y in numbers if x is not None and y is not None], AROUND)
        svg = inline_svg(figure, f"Scatter plot, a point a cell: {up[0]} against {across[0]}", prefix)
    if any(len(member.cell.finished) > 1 for member in drawn):
        caption += " Bars: standard deviation over seeds."
    return Illustration(title, caption + left_grey(drawn), svg, lacking=missing)
