"""A report's parts, gathered for the page."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import recsys_lt
from recsys_lt.analysis.comparison import Comparison, best, compare
from recsys_lt.analysis.numbers import shown
from recsys_lt.analysis.sweep_table import caption, content, mean_and_std
from recsys_lt.analysis.written_tables import Content, Entry
from recsys_lt.reporting.cast import Member, cast
from recsys_lt.reporting.examples import Examples, examples
from recsys_lt.reporting.exposure_table import exposure_table
from recsys_lt.reporting.figures.along_the_tail import along_the_tail
from recsys_lt.reporting.figures.cost import cost
from recsys_lt.reporting.figures.learning import learning
from recsys_lt.reporting.figures.tradeoff import head_against_nonhead
from recsys_lt.reporting.illustration import Illustration
from recsys_lt.reporting.metrics_by_group import metrics_by_group
from recsys_lt.reporting.page import page
from recsys_lt.reporting.what_was_run import Facts, what_was_run

_LEVEL = 0.05


class Part(NamedTuple):
    """What a report says of one dataset."""

    dataset: str
    members: list[Member]
    by_number: dict[str, Member]
    in_short: str
    facts: Facts
    table: Content | None
    by_group: Content | None
    learning: list[Illustration]
    popularity: list[Illustration]
    exposure: Content | None
    cost: Illustration
    users: Examples


def report(folder: Path, metrics: Sequence[str] | None, against: str | None, users: int) -> str:
    """The report as HTML; see ``recsys_lt.report.write_report``."""
    compared = compare(folder, metrics, against)
    everyone = cast(compared)
    rows = content(compared)
    # A name of the dataset in every row is not needed: each has its own table.
    skipped = 1 if len(everyone) > 1 else 0
    parts = []
    for number, ((dataset, members), section) in enumerate(zip(everyone.items(), rows.sections, strict=True)):
        table = [
            [Entry(str(member.number), value=member.number), *row[skipped:]]
            for member, row in zip(members, section, strict=True)
        ]
        alone = len(members) == 1 and bool(members[0].cell.finished)
        prefix = f"d{number}-"
        parts.append(
            Part(
                dataset,
                members,
                {str(member.number): member for member in members},
                _in_short(compared, dataset, members),
                what_was_run(members, folder),
                None if alone and metrics is None else Content(["#", *rows.names[skipped:]], rows.headings, [table]),
                metrics_by_group(members[0].cell) if alone else None,
                learning(members, prefix),
                [*along_the_tail(members, prefix), head_against_nonhead(members, prefix)],
                exposure_table(members),
                cost(members, compared.decisive, prefix),
                examples(members, compared, users),
            )
        )
    return page(
        title=folder.resolve().name,
        extent=_extent(compared),
        parts=parts,
        caption=caption(compared, "bold") if any(part.table is not None for part in parts) else [],
        version=recsys_lt.__version__,
        day=datetime.date.today().isoformat(),
    )


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _extent(compared: Comparison) -> str:
    finished = sum(len(cell.finished) for cell in compared.cells)
    failed = sum(len(cell.failed) for cell in compared.cells)
    text = f"{_counted(finished, 'finished run')} of {_counted(len(compared.cells), 'configuration')}"
    text += f" on {', '.join(compared.by_dataset)}"
    return text + (f"; {failed} failed or unfinished." if failed else ".")


def _in_short(compared: Comparison, dataset: str, members: Sequence[Member]) -> str:
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
        return f"Test {said}."
    parts = ", ".join(part for part in first.cell.parts if not part.endswith("=-"))
    text = f"Best: cell {first.number}, {parts}; test {said}."
    reference = compared.references[dataset]
    tested = [(member, p) for member in ran if (p := compared.p(member.cell)) is not None]
    if reference is None or not tested:
        return text + " No differences could be tested."
    differ = [member for member, p in tested if p < _LEVEL]
    whom = "it" if first.cell is reference else f"the reference, cell {_number(ran, reference)}"
    return text + (
        f" Of the {_counted(len(tested), 'cell')} tested against {whom}, {len(differ) or 'none'} "
        f"{'differs' if len(differ) == 1 else 'differ'} at p < {_LEVEL} (corrected; over users)."
    )


def _number(members: Sequence[Member], cell: object) -> int:
    return next(member.number for member in members if member.cell is cell)


def _spelt(metric: str) -> str:
    *group, measure = metric.split("/")
    return measure.upper() + (f" of {group[0]} targets" if group else "")
