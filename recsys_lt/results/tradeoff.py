"""What a cell gives to popular targets against what it gives to the others."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from recsys_lt.results.cells import Cell
from recsys_lt.results.plots import verbatim

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of a number beside its point, in points of print: where it may stand, the first choice first, and what it needs.
_BESIDE = np.array([(8, 7), (8, -7), (-8, 7), (-8, -7), (0, 10), (0, -10), (11, 0), (-11, 0)])
_FREE = 11.0

HEAD, OTHERS = "head/ndcg@10", "nonhead/ndcg@10"


def tradeoff(cells: Sequence[Cell], path: Path) -> None:
    """Draw NDCG@10 of head targets (across) and of all others (up), a point a cell, its spread over seeds as bars.

    One colour an optimizer, one mark a model and loss; numbers lead to the names below. Cells that differ in settings
    alone are joined, from the best of head on: what a method can have of the one for the other. Cells that did not
    measure both are left out.

    Parameters
    ----------
    cells
        Cells of a sweep.
    path
        PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from recsys_lt.system.atomic import replacing

    shown = [cell for cell in cells if cell.values(HEAD) and cell.values(OTHERS)]
    optimizers = list(dict.fromkeys(cell.identity[3] for cell in shown))
    kinds = list(dict.fromkeys((cell.dataset, *cell.identity[1:3]) for cell in shown))
    colours = dict(zip(optimizers, (f"C{n % 10}" for n in range(len(optimizers))), strict=True))
    marks = dict(zip(kinds, ("osD^v<>Ph*"[n % 10] for n in range(len(kinds))), strict=True))
    several = len({cell.dataset for cell in shown}) > 1
    methods: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    points: list[tuple[float, float, str]] = []
    figure = Figure(figsize=(6.4, 4.2 + 0.17 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, cell in enumerate(shown, start=1):
        (x, dx), (y, dy) = cell.mean_std(HEAD), cell.mean_std(OTHERS)
        assert x is not None
        assert y is not None
        methods.setdefault(cell.identity, []).append((x, y))
        colour, mark = colours[cell.identity[3]], marks[cell.dataset, *cell.identity[1:3]]
        words = [*([cell.dataset] if several else []), *cell.known_parts]
        axes.errorbar(
            x, y, xerr=dx, yerr=dy, fmt=mark, color=colour, markersize=6, elinewidth=0.8,
            label=fill(verbatim(f"{number}  {', '.join(words)}"), 100, subsequent_indent=" " * 6),
        )  # fmt: skip
        points.append((x, y, colour))
    for (*_, optimizer), joined in methods.items():
        axes.plot(*zip(*sorted(joined, reverse=True), strict=True), color=colours[optimizer], linewidth=0.9, alpha=0.6)
    axes.set_xlabel("NDCG@10, head targets")
    axes.set_ylabel("NDCG@10, mid and tail targets")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.margins(0.15)
    if shown:
        figure.legend(loc="outside lower left", frameon=False, fontsize=7)
        figure.draw_without_rendering()  # where things lie is known from here on
        _number(axes, points)
    with replacing(path) as draft:
        figure.savefig(draft, format="png", dpi=200)


def _number(axes: "Axes", points: Sequence[tuple[float, float, str]]) -> None:
    """Write each point's number, from 1, beside it: in the first of eight places that is free, else in the freest."""
    scale = 72 / axes.figure.dpi
    taken = scale * axes.transData.transform([(x, y) for x, y, _ in points])
    for number, (x, y, colour) in enumerate(points, start=1):
        places = taken[number - 1] + _BESIDE
        others = np.delete(taken, number - 1, axis=0)
        free = np.linalg.norm(places[:, None] - others, axis=-1).min(-1, initial=_FREE)
        place = places[free.argmax()]
        taken = np.vstack([taken, place])
        axes.annotate(
            f"{number}", (x, y), tuple(place - taken[number - 1]), textcoords="offset points", fontsize=8, color=colour,
            ha="center", va="center",
        )  # fmt: skip
