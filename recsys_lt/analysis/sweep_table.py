"""The table of a sweep as text: what stands in each place, and the lines below it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from recsys_lt.analysis.cells import Cell
from recsys_lt.analysis.comparison import Comparison, best, best_first
from recsys_lt.analysis.numbers import shown
from recsys_lt.analysis.significance import LEAST, why_untested
from recsys_lt.analysis.written_tables import Content, Entry

_TESTS = {
    "permutation": "paired permutation test",
    "t": "paired t-test",
    "wilcoxon": "Wilcoxon signed-rank test",
}


def content(compared: Comparison, sign: str = "±") -> Content:
    """The table: a row a cell, a section a dataset.

    Parameters
    ----------
    compared
        The cells.
    sign
        What stands before a spread.
    """
    cells = compared.cells
    settings = list(dict.fromkeys(key for cell in cells for key in cell.settings))
    several = len(compared.by_dataset) > 1
    names = [*(["dataset"] if several else []), "model", "loss", "optimizer", *settings]
    headings = [
        f"{measure}\n{'/'.join(group) or 'overall'}"
        for *group, measure in (metric.split("/") for metric in compared.metrics)
    ]
    tested = [g for g in compared.tested if any(compared.p(cell, g) is not None for cell in cells)] or [""]
    headings += ["n", *(f"p\n{group}" if group else "p" for group in tested)]
    sections = []
    for dataset, of_one in compared.by_dataset.items():
        highest = {metric: best(of_one, metric) if len(of_one) > 1 else None for metric in compared.metrics}
        rows = []
        for cell in of_one:
            row = [Entry(part) for part in ([dataset] if several else []) + list(cell.identity[1:])]
            row += [Entry(cell.settings.get(key, "-")) for key in settings]
            for metric in compared.metrics:
                mean = cell.mean_std(metric)[0]
                text = mean_and_std(cell, metric, sign) if cell.finished else "failed"
                row.append(Entry(text, mean is not None and mean == highest[metric], not cell.finished, mean))
            row.append(Entry(_shown_n(cell), value=float(len(cell.finished))))
            for group in tested:
                p = compared.p(cell, group)
                text = "ref" if cell is compared.references[dataset] else _shown_p(p)
                row.append(Entry(text, value=p))
            rows.append(row)
        sections.append(rows)
    return Content(names, headings, sections)


def caption(compared: Comparison, mark: str, name: Callable[[Cell], str] = lambda cell: cell.label) -> list[str]:
    """What one must know to read the table, a sentence or two a line.

    Parameters
    ----------
    compared
        The cells.
    mark
        How the best ones are marked, in a word.
    name
        What to call a cell.
    """
    lines = [f"Test metrics, mean and sample standard deviation over n runs (seeds); {mark}: best of its dataset."]
    references, gain = compared.references, compared.gain
    against = "; ".join(
        (f"{dataset}: " if len(references) > 1 else "") + (name(cell) if cell else "no such cell")
        for dataset, cell in references.items()
    )
    if any(p is not None for p in compared.p_values.values()):
        lines.append(
            f"p: two-sided {_TESTS[compared.test]} over users on {gain[0].upper()}@{gain[1]}, each user averaged over "
            f"the seeds both cells have, against {against} (ref{compared.why_reference}). It speaks of which users "
            "were drawn, not of the spread over seeds. Corrected by Holm for the cells of a dataset"
            + (f"; before that it is never below {LEAST:g}." if compared.test == "permutation" else ".")
            + _tested(compared)
        )
        for dataset, cells in compared.by_dataset.items():
            first = min(cells, key=lambda cell: best_first(cell, compared.decisive))
            reference = references[dataset]
            if reference is not None and first is not reference and compared.p(first) is None:
                lines.append(f"{name(first)} could not be tested: {why_untested(first, reference)}.")
    elif compared.p_values:
        reasons = {
            why_untested(cell, reference)
            for dataset, cells in compared.by_dataset.items()
            if (reference := references[dataset]) is not None
            for cell in cells
            if cell.finished and cell is not reference
        } - {""}
        lines.append(f"p: no test against {against} (ref): {', '.join(sorted(reasons)) or 'nothing was measured'}.")
    for cell in compared.cells:
        if repeated := compared.repeated.get(id(cell)):
            lines.append(
                f"Seed {', '.join(repeated)} occurs more than once in {cell.dataset} {name(cell)}; "
                "the first run of it counts."
            )
    for run in (run for cell in compared.cells for run in cell.failed):
        lines.append(f"Failed or unfinished: {_below(run.folder, compared.roots)} (seed {run.seed})")
    for run in compared.broken:
        lines.append(f"Not read: {_below(run.folder, compared.roots)} ({run.broken})")
    return lines


def _tested(compared: Comparison) -> str:
    """Whose tests the columns are, in words."""
    of = {"nonhead": "mid or tail"}
    groups = [group for group in compared.tested if group]
    return "".join(f" {group}: users whose target is {of.get(group, group)}." for group in groups)


def _below(folder: Path, roots: Sequence[Path]) -> Path:
    root = next(root for root in roots if folder.is_relative_to(root))
    return folder.relative_to(root) if folder != root else folder


def mean_and_std(cell: Cell, metric: str, sign: str = "±") -> str:
    """A metric of a cell: its mean, and its spread over seeds where there are several."""
    mean, std = cell.mean_std(metric)
    text = shown(metric, mean)
    # A space to break at: in a narrow terminal the spread goes below the mean.
    return text if std is None else f"{text} {sign}{shown(metric, std)}"


def _shown_p(p: float | None) -> str:
    if p is None:
        return "-"
    return "<.0001" if p < 1e-4 else f"{p:.4f}".removeprefix("0")


def _shown_n(cell: Cell) -> str:
    return f"{len(cell.finished)}" + (f" +{len(cell.failed)} failed" if cell.failed else "")
