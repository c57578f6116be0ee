"""A report's parts, gathered for the page."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import recsys_lt
from recsys_lt.results.cell_styles import StyledCell, heading, styled_cells
from recsys_lt.results.cells import Cell
from recsys_lt.results.comparison import Comparison, best, compare
from recsys_lt.results.numbers import shown
from recsys_lt.results.report.examples import Examples, Open, examples
from recsys_lt.results.report.exposure_table import exposure_table
from recsys_lt.results.report.figures import Illustration, by_history, by_popularity, cost, learning, tradeoff
from recsys_lt.results.report.metrics_by_group import metrics_by_group
from recsys_lt.results.report.page import page
from recsys_lt.results.report.what_was_run import Facts, what_was_run
from recsys_lt.results.significance import LEVEL, why_untested
from recsys_lt.results.sweep_table import caption, content, mean_and_std
from recsys_lt.results.written_tables import Content


class Part(NamedTuple):
    """What a report says of one dataset."""

    dataset: str
    title: str
    members: list[StyledCell]
    by_number: dict[str, StyledCell]
    key: list[StyledCell]
    in_short: str
    facts: Facts
    table: Content | None
    by_group: Content | None
    learning: list[Illustration]
    popularity: list[Illustration]
    exposure: Content | None
    cost: Illustration
    users: Examples


def report(folder: Path, metrics: Sequence[str] | None, against: str | None, users: int, open_run: Open) -> str:
    """The report as HTML; see ``recsys_lt.cli.report.write_report``."""
    compared = compare([folder], metrics, against)
    everyone = styled_cells(compared)
    rows = content(compared)
    # What a cell is called stands in one column: the numbers are what one wants to see, on a phone too.
    names = len(rows.names)
    parts = []
    for number, ((dataset, members), section) in enumerate(zip(everyone.items(), rows.sections, strict=True)):
        table = [[*member.entries, *row[names:]] for member, row in zip(members, section, strict=True)]
        alone = len(members) == 1 and bool(members[0].cell.finished)
        prefix = f"d{number}-"
        parts.append(
            Part(
                dataset,
                heading(dataset, members),
                members,
                {str(member.number): member for member in members},
                [member for member in members if member.look.coloured] if len(members) > 1 else [],
                _in_short(compared, dataset, members),
                what_was_run(members, folder),
                None if alone and metrics is None else Content(["#", "cell"], rows.headings, [table]),
                metrics_by_group(members[0].cell) if alone else None,
                learning(members, prefix),
                [*by_popularity(members, prefix), tradeoff(members, prefix), by_history(members, prefix)],
                exposure_table(members),
                cost(members, compared.decisive, prefix),
                examples(members, compared, users, open_run),
            )
        )
    return page(
        title=folder.resolve().name,
        extent=_extent(compared),
        parts=parts,
        caption=_caption(compared, everyone) if any(part.table is not None for part in parts) else [],
        version=recsys_lt.__version__,
        day=datetime.date.today().isoformat(),
    )


def _caption(compared: Comparison, everyone: Mapping[str, Sequence[StyledCell]]) -> list[str]:
    by_cell = {id(member.cell): member for members in everyone.values() for member in members}

    def name(cell: Cell) -> str:
        member = by_cell[id(cell)]
        return f"cell {member.number} ({member.full_name})"

    return caption(compared, "bold", name)


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _extent(compared: Comparison) -> str:
    finished = sum(len(cell.finished) for cell in compared.cells)
    failed = sum(len(cell.failed) for cell in compared.cells)
    text = f"{_counted(finished, 'finished run')} of {_counted(len(compared.cells), 'configuration')}"
    text += f" on {('; ' if any(',' in name for name in compared.by_dataset) else ', ').join(compared.by_dataset)}"
    return text + (f"; {failed} failed or unfinished." if failed else ".")


def _in_short(compared: Comparison, dataset: str, members: Sequence[StyledCell]) -> str:
    metric = compared.decisive
    ran = [member for member in members if member.cell.finished and member.cell.mean_std(metric)[0] is not None]
    if not ran:
        return f"No run measured {metric}."
    highest = best([member.cell for member in ran], metric)
    first = next(member for member in ran if member.cell.mean_std(metric)[0] == highest)
    said = f"{_spelt(metric)} is {mean_and_std(first.cell, metric)}"
    groups = ", ".join(
        f"{group} {shown(metric, mean)}"
        for group in ("head", "nonhead")
        if "/" not in metric and (mean := first.cell.mean_std(f"{group}/{metric}")[0]) is not None
    )
    said += f" ({groups})" if groups else ""
    if len(ran) == 1:
        return f"{first.full_name}: test {said}."
    n = len(first.cell.finished)
    text = f"Highest on the test: cell {first.number}, {first.full_name}; {said}, {_counted(n, 'run')}."
    reference = compared.references[dataset]
    if reference is None or not any(compared.difference(member.cell) is not None for member in ran):
        return text + " No differences could be tested."
    whom = "it" if first.cell is reference else f"cell {_number(ran, reference)}"
    whom += compared.why_reference
    for over_seeds, words in ((True, "over users and seeds"), (False, "over users only: these trained models")):
        overall, nonhead = (_differing(compared, ran, group, over_seeds) for group in compared.tested)
        if overall:
            text += f" Compared with {whom}, {overall} at p < {LEVEL} (corrected; {words})"
            text += f"; for users with a mid or tail target, {nonhead}." if nonhead else "."
    if first.cell is not reference and compared.difference(first.cell) is None:
        text += f" Cell {first.number} itself could not be: {why_untested(first.cell, reference)}."
    return text


def _differing(compared: Comparison, ran: Sequence[StyledCell], group: str, over_seeds: bool) -> str:
    """How many of the cells tested in this way differ from their reference, in words; "" where there is none."""
    found = (compared.difference(member.cell, group) for member in ran)
    known = [each.p for each in found if each is not None and each.over_seeds is over_seeds]
    if not known:
        return ""
    differ = sum(p < LEVEL for p in known)
    if len(known) == 1:
        return "the one other cell differs" if differ else "the one other cell does not differ"
    return f"{differ or 'none'} of {len(known)} cells {'differs' if differ == 1 else 'differ'}"


def _number(members: Sequence[StyledCell], cell: object) -> int:
    return next(member.number for member in members if member.cell is cell)


def _spelt(metric: str) -> str:
    *group, measure = metric.split("/")
    return measure.upper() + (f" of {group[0]} targets" if group else "")
