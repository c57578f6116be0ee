"""Content of the report, a part for each dataset."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys_lt.results.cell_styles import StyledCell, heading, styled_cells
from recsys_lt.results.cells import Cell
from recsys_lt.results.comparison import Comparison, best, compare
from recsys_lt.results.numbers import shown
from recsys_lt.results.report.examples import Open, examples
from recsys_lt.results.report.figures import Figures
from recsys_lt.results.report.page import page
from recsys_lt.results.report.tables import exposure_table, metrics_by_group
from recsys_lt.results.report.what_was_run import what_was_run
from recsys_lt.results.significance import LEVEL, why_untested
from recsys_lt.results.sweep_table import caption, content, mean_and_std
from recsys_lt.results.written_tables import Content
from recsys_lt.system.package import __version__


def report(folder: Path, metrics: Sequence[str] | None, against: str | None, users: int, open_run: Open) -> str:
    """The report of the runs in a folder as HTML, with so many example users; for the rest see ``compare``."""
    compared = compare([folder], metrics, against)
    styled = styled_cells(compared)
    table = content(compared)
    parts = [
        _part(compared, dataset, cells, rows, f"d{number}-", metrics is None)
        | {"facts": what_was_run(cells, folder), "users": examples(cells, compared, users, open_run)}
        for number, ((dataset, cells), rows) in enumerate(zip(styled.items(), _named(table, styled), strict=True))
    ]
    by_cell = {id(each.cell): each for cells in styled.values() for each in cells}

    def name(cell: Cell) -> str:
        each = by_cell[id(cell)]
        return f"cell {each.number} ({each.full_name})"

    return page(
        title=folder.resolve().name,
        extent=_extent(compared),
        parts=parts,
        caption=caption(compared, "bold", name) if any(part["table"] is not None for part in parts) else [],
        version=__version__,
        day=datetime.date.today().isoformat(),
    )


def _named(table: Content, styled: Mapping[str, Sequence[StyledCell]]) -> Iterator[Content]:
    """The table of each dataset, with number and name of a cell in place of model, loss, optimizer and settings."""
    for cells, section in zip(styled.values(), table.sections, strict=True):
        rows = [[*each.entries, *row[len(table.names) :]] for each, row in zip(cells, section, strict=True)]
        yield Content(["#", "cell"], table.headings, [rows])


def _part(
    compared: Comparison, dataset: str, cells: list[StyledCell], table: Content, prefix: str, usual: bool
) -> dict[str, Any]:
    """What the page shows of one dataset; ``usual`` if no metrics were chosen for its table."""
    figures = Figures(cells, prefix)
    alone = len(cells) == 1 and bool(cells[0].cell.finished)
    return {
        "dataset": dataset,
        "title": heading(dataset, cells),
        "cells": cells,
        "by_number": {each.look.text: each for each in cells},
        "key": [each for each in cells if each.look.coloured] if len(cells) > 1 else [],
        "in_short": _in_short(compared, dataset, cells),
        "table": None if alone and usual else table,
        "by_group": metrics_by_group(cells[0].cell) if alone else None,
        "learning": figures.learning(),
        "popularity": [*figures.by_popularity(), figures.head_against_nonhead(), figures.by_history()],
        "exposure": exposure_table(cells),
        "cost": figures.cost(compared.decisive),
    }


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _extent(compared: Comparison) -> str:
    finished = sum(len(cell.finished) for cell in compared.cells)
    failed = sum(len(cell.failed) for cell in compared.cells)
    text = f"{_counted(finished, 'finished run')} of {_counted(len(compared.cells), 'configuration')}"
    text += f" on {('; ' if any(',' in name for name in compared.by_dataset) else ', ').join(compared.by_dataset)}"
    return text + (f"; {failed} failed or unfinished." if failed else ".")


def _in_short(compared: Comparison, dataset: str, cells: Sequence[StyledCell]) -> str:
    metric = compared.decisive
    ran = [each for each in cells if each.cell.finished and each.cell.mean_std(metric)[0] is not None]
    if not ran:
        return f"No run measured {metric}."
    highest = best([each.cell for each in ran], metric)
    first = next(each for each in ran if each.cell.mean_std(metric)[0] == highest)
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
    if reference is None or not any(compared.difference(each.cell) is not None for each in ran):
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
    found = (compared.difference(each.cell, group) for each in ran)
    known = [each.p for each in found if each is not None and each.over_seeds is over_seeds]
    if not known:
        return ""
    differ = sum(p < LEVEL for p in known)
    if len(known) == 1:
        return "the one other cell differs" if differ else "the one other cell does not differ"
    return f"{differ or 'none'} of {len(known)} cells {'differs' if differ == 1 else 'differ'}"


def _number(cells: Sequence[StyledCell], cell: object) -> int:
    return next(each.number for each in cells if each.cell is cell)


def _spelt(metric: str) -> str:
    *group, measure = metric.split("/")
    return measure.upper() + (f" of {group[0]} targets" if group else "")
