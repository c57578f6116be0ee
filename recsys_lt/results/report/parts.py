"""The content of the HTML report: a part for each dataset."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from recsys_lt.errors import UserError
from recsys_lt.results.cell_styles import StyledCell, heading, styled_cells
from recsys_lt.results.comparison import Comparison, best_first, compare
from recsys_lt.results.field_terms import in_a_sentence
from recsys_lt.results.item_prior.tables import matrix_table
from recsys_lt.results.plots.panels import FEW
from recsys_lt.results.report.examples import CHECKPOINT, OpenRun, examples, without_path
from recsys_lt.results.report.figures import Figures
from recsys_lt.results.report.rendering import rendered
from recsys_lt.results.report.what_was_run import what_was_run
from recsys_lt.results.significance import LEVEL, why_untested
from recsys_lt.results.tables import caption, content, exposure_table, mean_and_std, metrics_by_group
from recsys_lt.results.written_tables import Content, shown


def report(
    folder: Path, metrics: Sequence[str] | None, against: str | None, users: int, open_run: OpenRun, data: bool = False
) -> str:
    """The report of the runs in a folder as HTML, with so many example users; for the rest see ``compare``.

    With ``data`` it says of each dataset what its card says, which takes as long as making the card.
    """
    compared = compare([folder], metrics, against)
    styled = styled_cells(compared)
    table = content(compared)
    parts = []
    for number, ((dataset, cells), section) in enumerate(zip(styled.items(), table.sections, strict=True)):
        figures = Figures(cells, f"d{number}-")
        alone = len(cells) == 1 and bool(cells[0].cell.finished)
        by_group = metrics_by_group(cells[0].cell) if alone else None
        # Number and name of a cell stand in place of model, loss, optimizer and settings.
        rows = [[*each.entries, *row[len(table.names) :]] for each, row in zip(cells, section, strict=True)]
        parts.append(
            {
                "dataset": dataset,
                "title": heading(dataset, cells),
                "cells": cells,
                "by_number": {each.look.text: each for each in cells},
                "key": [each for each in cells if each.look.coloured] if len(cells) > 1 else [],
                "lead": _lead(compared, dataset, cells),
                "facts": what_was_run(cells, folder),
                "table": None if alone and metrics is None else Content(["#", "cell"], table.headings, [rows]),
                "by_group": by_group and by_group._replace(sections=[list(chain(*by_group.sections))]),
                "learning": figures.learning(),
                "popularity": [*figures.by_popularity(), figures.head_against_nonhead(), figures.by_history()],
                "exposure": exposure_table(cells),
                "priors": _priors(cells),
                "cost": figures.cost(compared.decisive),
                "users": examples(cells, compared, users, open_run),
                "data": _on_data(cells, open_run) if data else None,
            }
        )
    names = {id(each.cell): f"cell {each.number} ({each.full_name})" for cells in styled.values() for each in cells}
    return rendered(
        "report.html.j2",
        title=parts[0]["title"] if len(compared.cells) == 1 else folder.resolve().name,
        folder=folder.resolve().name,
        compared=compared,
        decisive=in_a_sentence(compared.decisive),
        level=LEVEL,
        few=FEW,
        parts=parts,
        caption=caption(compared, "bold", lambda cell: names[id(cell)]) if any(part["table"] for part in parts) else [],
    )


def _on_data(cells: Sequence[StyledCell], open_run: OpenRun) -> dict[str, Any]:
    """What the dataset's card says, of the data of the first run that can be opened, or why there is none."""
    from recsys_lt.results.dataset_card.card import baseline_table, measured, on_baselines, sections

    why = f"no run holds {CHECKPOINT}, which names its data"
    for run in (run for each in cells for run in each.cell.finished if (run.folder / CHECKPOINT).is_file()):
        try:
            opened = open_run(run.folder)
            settings = opened.parts.metrics
            numbers = measured(opened.data, opened.groups, settings.mask_seen, settings.max_users)
        except UserError as error:
            why = without_path(error)
            continue
        table, words = baseline_table(numbers), on_baselines(numbers)
        return {"sections": list(sections(numbers)), "table": table, "on_baselines": words, "lacking": []}
    return {"sections": [], "table": None, "on_baselines": "", "lacking": [f"The data are not described: {why}."]}


def _priors(cells: Sequence[StyledCell]) -> list[tuple[str, Content]]:
    """NDCG@10 and HR@10 by prior and popularity of the target, of the first run of each cell that measured it."""
    runs = [(each, run.metrics or {}) for each in cells for run in each.cell.finished[:1]]
    return [
        (f"{each.full_name}, seed {metrics['seed']}", matrix_table(metrics["prior"], "2x2"))
        for each, metrics in runs
        if metrics.get("prior")
    ]


def _lead(compared: Comparison, dataset: str, cells: Sequence[StyledCell]) -> dict[str, Any]:
    """What the page begins with: the cells that measured the decisive metric, the best first, and what was tested.

    ``tests`` are how many cells differ from the reference, of how many: overall and of nonhead targets.
    """
    metric = compared.decisive
    ran = [each for each in cells if each.cell.mean_std(metric)[0] is not None]
    if not ran:
        return {"ran": []}
    ran.sort(key=lambda each: best_first(each.cell, metric))
    best, reference = ran[0].cell, compared.references[dataset]
    tests = {}
    for over_seeds, words in ((True, "over users and seeds"), (False, "over users only: these trained models")):
        found = [[compared.difference(each.cell, group) for each in ran] for group in compared.tested]
        known = [[each.p for each in of_group if each and each.over_seeds is over_seeds] for of_group in found]
        tests[words] = [(sum(p < LEVEL for p in of_group), len(of_group)) for of_group in known]
    means = {group: best.mean_std(f"{group}/{metric}")[0] for group in ("head", "nonhead") if "/" not in metric}
    untested = ""
    if reference is not None and best is not reference and compared.difference(best) is None:
        untested = why_untested(best, reference)
    return {
        "ran": ran,
        "value": mean_and_std(best, metric),
        "groups": {name: shown(metric, mean) for name, mean in means.items() if mean is not None},
        "reference": next((each.number for each in ran if each.cell is reference), None),
        "why_reference": compared.why_reference,
        "tests": tests,
        "untested": untested,
    }
