"""NDCG and exposure along the catalogue, from the most popular items to the least."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from recsys_lt.metrics.groups import GROUPS
from recsys_lt.results.cast import Member
from recsys_lt.results.cells import Cell
from recsys_lt.results.drawing import canvas, inline_svg
from recsys_lt.results.illustration import Illustration, cell_line, lacking, left_grey
from recsys_lt.results.numbers import MISSING, mean_of, shown
from recsys_lt.results.palette import LINE, MUTED
from recsys_lt.results.written_tables import Content, Entry

#: With more cells than this their intervals would cover each other.
_WITH_INTERVALS = 3


class Part(NamedTuple):
    """What a cell did for one part of the catalogue, means over its runs; None for what was not measured."""

    ndcg: float | None
    low: float | None
    high: float | None
    exposure: float | None
    interactions: float | None
    users: float | None
    counts: str


def along_the_tail(members: Sequence[Member], prefix: str) -> list[Illustration]:
    """NDCG@10 by popularity of the target, and the share of the lists that each part of the items gets.

    By tenths of the items; by head, mid and tail where no run of the dataset knows its tenths.

    Parameters
    ----------
    members
        Cells of one dataset.
    prefix
        For the ids in the drawings.
    """
    ran = [member for member in members if member.cell.finished]
    parts = {member.number: _tenths(member.cell) for member in ran}
    by_tenths = any(parts.values())
    if not by_tenths:
        parts = {member.number: _by_group(member.cell) for member in ran}
    drawn = [member for member in ran if parts[member.number]]
    missing = lacking([member for member in ran if member not in drawn], "long_tail of metrics.json")
    if not by_tenths:
        missing = ("Head, mid and tail stand for tenths of the items: the runs' metrics.json holds no long_tail.",)
    if not drawn:
        words = ("Not drawn: no run measured NDCG@10 by popularity.",)
        return [Illustration("NDCG@10 by popularity", "", lacking=words), Illustration("Exposure", "", lacking=words)]
    return [
        _ndcg(drawn, parts, by_tenths, missing, prefix),
        _exposure(drawn, parts, by_tenths, missing, prefix),
    ]


def _tenths(cell: Cell) -> list[Part]:
    runs = [(run.metrics or {}).get("long_tail") for run in cell.finished]
    tables = [run["deciles"] for run in runs if isinstance(run, dict) and run.get("deciles")]
    if not tables or len(tables) < len(runs) or len({len(table) for table in tables}) > 1:
        return []
    return [_averaged([table[place] for table in tables]) for place in range(len(tables[0]))]


def _averaged(rows: Sequence[dict[str, Any]]) -> Part:
    least, most = rows[0].get("least"), rows[0].get("most")
    return Part(
        mean_of(rows, "ndcg@10"), mean_of(rows, "low"), mean_of(rows, "high"), mean_of(rows, "exposure"),
        mean_of(rows, "interactions"), mean_of(rows, "users"),
        f"{most:,}" if least == most else f"{most:,} to {least:,}",
    )  # fmt: skip


def _by_group(cell: Cell) -> list[Part]:
    parts = [
        Part(
            cell.mean_std(f"{group}/ndcg@10")[0], None, None, cell.mean_std(f"{group}/exposure@10")[0], None,
            cell.mean_std(f"{group}/users")[0], "",
        )
        for group in GROUPS
    ]  # fmt: skip
    return parts if any(part.ndcg is not None for part in parts) else []


_Parts = dict[int, list[Part]]


def _ndcg(
    drawn: Sequence[Member], parts: _Parts, by_tenths: bool, missing: tuple[str, ...], prefix: str
) -> Illustration:
    intervals = by_tenths and len(drawn) <= _WITH_INTERVALS
    title = "NDCG@10 by popularity of the target"
    with canvas() as (figure, axes):
        highest = 1e-3
        for number, member in enumerate(sorted(drawn, key=lambda member: member.coloured)):
            left = 0.12 * (number - (len(drawn) - 1) / 2) if intervals else 0.0
            known = [
                (place + left, part) for place, part in enumerate(parts[member.number], 1) if part.ndcg is not None
            ]
            xs, ys = [x for x, _ in known], [part.ndcg or 0.0 for _, part in known]
            cell_line(axes, member, xs, ys)
            highest = max([highest, *ys])
            if intervals:
                low = [part.low or 0.0 for _, part in known]
                high = [part.high or 0.0 for _, part in known]
                axes.vlines(xs, low, high, color=member.colour.light, linewidth=0.9, alpha=0.8)
                highest = max([highest, *high])
        axes.set_ylim(0, highest * 1.06)
        axes.set_ylabel("test NDCG@10")
        _places(axes, len(parts[drawn[0].number]), by_tenths)
        svg = inline_svg(figure, f"Line chart, a line a cell: {title}", f"{prefix}ndcg-")
    caption = "Test NDCG@10 of the users whose target lies in each part of the items, the most popular items left"
    caption += "; a line that falls less to the right serves rare items better."
    if intervals:
        caption += " Bars: 95 % bootstrap intervals over users"
        several = any(len(member.cell.finished) > 1 for member in drawn)
        caption += ", means over the runs." if several else "."
    table = _numbers(drawn, parts, by_tenths, "ndcg")
    return Illustration(title, caption + left_grey(drawn), svg, table, missing)


def _exposure(
    drawn: Sequence[Member], parts: _Parts, by_tenths: bool, missing: tuple[str, ...], prefix: str
) -> Illustration:
    title = "Exposure"
    exposed = [m for m in drawn if all(part.exposure is not None for part in parts[m.number])]
    if not exposed:
        return Illustration(title, "", lacking=("Not drawn: no run measured exposure at 10.",))
    with canvas() as (figure, axes):
        asked = parts[exposed[0].number]
        highest = 1.0
        if by_tenths:
            bars = [100 * (part.interactions or 0.0) for part in asked]
            axes.bar(range(1, len(bars) + 1), bars, 0.75, color=LINE.light, edgecolor=MUTED.light, linewidth=0.4)
            highest = max(bars)
        for member in sorted(exposed, key=lambda member: member.coloured):
            ys = [100 * (part.exposure or 0.0) for part in parts[member.number]]
            cell_line(axes, member, range(1, len(ys) + 1), ys)
            highest = max([highest, *ys])
        axes.set_ylim(0, highest * 1.06)
        axes.set_ylabel("share of lists of ten [%]")
        _places(axes, len(asked), by_tenths)
        svg = inline_svg(figure, "Line chart, a line a cell: exposure by popularity of the items", f"{prefix}exposure-")
    caption = "Share of all places in the lists of ten that each part of the items gets."
    if by_tenths:
        caption += " Bars: its share of training interactions; a point above its bar is shown more than it was chosen."
    table = _numbers(exposed, parts, by_tenths, "exposure")
    return Illustration(title, caption + left_grey(exposed), svg, table, missing)


def _places(axes: Any, n: int, by_tenths: bool) -> None:
    axes.set_xlim(0.5, n + 0.5)
    axes.grid(axis="x", visible=False)
    axes.set_xticks(range(1, n + 1), [str(place) for place in range(1, n + 1)] if by_tenths else list(GROUPS))
    axes.set_xlabel("tenths of the items, most popular first" if by_tenths and n == 10 else "items, most popular first")


def _numbers(drawn: Sequence[Member], parts: _Parts, by_tenths: bool, field: str) -> Content:
    first = parts[drawn[0].number]
    names = [str(place) for place in range(1, len(first) + 1)] if by_tenths else list(GROUPS)
    rows = [
        [Entry(str(member.number), value=member.number), Entry(member.name)]
        + [Entry(shown(field, getattr(part, field)), value=getattr(part, field)) for part in parts[member.number]]
        for member in drawn
    ]
    if by_tenths:
        counts = [Entry(part.counts) for part in first]
        rows.append([Entry(""), Entry("training interactions of its items"), *counts])
    users = [Entry(MISSING if part.users is None else f"{part.users:,.0f}") for part in first]
    rows.append([Entry(""), Entry("users whose target is in it"), *users])
    return Content(["#", "cell"], names, [rows])
