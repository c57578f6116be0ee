"""What the cells recommend, whoever asks: the popularity metrics of their lists of ten."""

from collections.abc import Sequence

from recsys_lt.metrics.groups import GROUPS
from recsys_lt.results.cell_styles import StyledCell
from recsys_lt.results.comparison import best
from recsys_lt.results.sweep_table import mean_and_std
from recsys_lt.results.written_tables import Content, Entry

_COLUMNS = {
    "coverage@10": "coverage",
    "gini@10": "Gini",
    "arp@10": "ARP",
    "aplt@10": "APLT",
    **{f"{group}/exposure@10": f"share of\n{group}" for group in GROUPS},
}


def exposure_table(members: Sequence[StyledCell]) -> Content | None:
    """A row a cell; None where no cell measured any of it.

    Parameters
    ----------
    members
        Cells of one dataset.
    """
    ran = [member for member in members if member.cell.finished]
    cells = [member.cell for member in ran]
    known = [metric for metric in _COLUMNS if any(cell.values(metric) for cell in cells)]
    if not known:
        return None
    highest = {metric: best(cells, metric) if len(cells) > 1 else None for metric in known}
    rows = []
    for member in ran:
        row = member.entries
        for metric in known:
            mean = member.cell.mean_std(metric)[0]
            row.append(
                Entry(mean_and_std(member.cell, metric), mean is not None and mean == highest[metric], value=mean)
            )
        rows.append(row)
    return Content(["#", "cell"], [_COLUMNS[metric] for metric in known], [rows])
