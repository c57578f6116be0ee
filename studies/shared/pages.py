"""Tables, colours and legends of the pages made from runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recsys_lt.results.plots.drawing import CELLS, MUTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = CELLS[0].light, CELLS[1].light, MUTED.light
LIGHT_BLUE = "#7fa3cf"


def legend_below(figure: "Figure", columns: int = 6) -> None:
    """One legend for all panels, below them, where it hides nothing; each label once."""
    marks = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(marks.values(), marks.keys(), loc="outside lower center", ncols=columns)


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, a line a row."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
