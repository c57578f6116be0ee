"""NDCG of users with short histories against users with long ones."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from recsys_lt.results.cast import Member
from recsys_lt.results.cells import Cell
from recsys_lt.results.drawing import canvas, inline_svg
from recsys_lt.results.illustration import Illustration, cell_line, lacking, left_grey
from recsys_lt.results.numbers import MISSING, mean_of, shown
from recsys_lt.results.plots.history_length import lengths
from recsys_lt.results.written_tables import Content, Entry

_TITLE = "NDCG@10 by length of the history"


class Bin(NamedTuple):
    """Users with about as long a history: how many events, how many users, and a cell's mean over its runs."""

    shortest: int
    longest: int
    users: int
    ndcg: float | None


def by_history(members: Sequence[Member], prefix: str) -> Illustration:
    """Test NDCG@10 against the number of events before the target; users fall into bins of about the same size.

    Parameters
    ----------
    members
        Cells of one dataset.
    prefix
        For the ids in the drawing.
    """
    ran = [member for member in members if member.cell.finished]
    bins = {member.number: _bins(member.cell) for member in ran}
    known = [member for member in ran if bins[member.number]]
    if not known:
        return Illustration(_TITLE, "", lacking=("Not drawn: no run's metrics.json holds NDCG by history.",))
    # A run on some of the users has other bins than the rest.
    first = _edges(bins[known[0].number])
    drawn = [member for member in known if _edges(bins[member.number]) == first]
    missing = lacking([member for member in ran if member not in known], "NDCG by history in metrics.json")
    missing += lacking([member for member in known if member not in drawn], "NDCG by the same lengths of history")
    with canvas() as (figure, axes):
        highest = 1e-3
        for member in sorted(drawn, key=lambda member: member.coloured):
            points = [(n, each.ndcg) for n, each in enumerate(bins[member.number], 1) if each.ndcg is not None]
            cell_line(axes, member, [n for n, _ in points], [ndcg for _, ndcg in points])
            highest = max([highest, *(ndcg for _, ndcg in points)])
        axes.set_ylim(0, highest * 1.06)
        axes.set_ylabel("test NDCG@10")
        axes.set_xlim(0.5, len(first) + 0.5)
        axes.grid(axis="x", visible=False)
        edges = [lengths(shortest, longest) for shortest, longest, _ in first]
        # 146-222 beside 223-647 would lie on each other.
        axes.set_xticks(range(1, len(first) + 1), edges, rotation=30 if sum(map(len, edges)) > 36 else 0)
        axes.set_xlabel("events in the user's history before the target")
        svg = inline_svg(figure, f"Line chart, a line a cell: {_TITLE}", f"{prefix}history-")
    caption = "Test NDCG@10 of users by how many events they have before the target; "
    caption += "users with the shortest histories are on the left; about as many users in each."
    return Illustration(_TITLE, caption + left_grey(drawn), svg, _numbers(drawn, bins), missing)


def _bins(cell: Cell) -> list[Bin]:
    """Those of a cell; empty unless every run of it has the same ones."""
    found: list[list[dict[str, Any]]] = []
    for run in cell.finished:
        long_tail = (run.metrics or {}).get("long_tail")
        found.append((long_tail.get("histories") if isinstance(long_tail, dict) else None) or [])
    edges = {tuple((row["shortest"], row["longest"], row["users"]) for row in rows) for rows in found}
    if len(edges) != 1:
        return []
    return [
        Bin(rows[0]["shortest"], rows[0]["longest"], rows[0]["users"], mean_of(rows, "ndcg@10"))
        for rows in zip(*found, strict=True)
    ]


def _edges(bins: Sequence[Bin]) -> list[tuple[int, int, int]]:
    return [(each.shortest, each.longest, each.users) for each in bins]


def _numbers(drawn: Sequence[Member], bins: dict[int, list[Bin]]) -> Content:
    first = _edges(bins[drawn[0].number])
    rows = [
        [Entry(str(member.number), value=member.number), Entry(member.name)]
        + [
            Entry(MISSING if each.ndcg is None else shown("ndcg", each.ndcg), value=each.ndcg)
            for each in bins[member.number]
        ]
        for member in drawn
    ]
    rows.append([Entry(""), Entry("users"), *(Entry(f"{users:,}") for *_, users in first)])
    return Content(["#", "cell"], [lengths(shortest, longest) for shortest, longest, _ in first], [rows])
