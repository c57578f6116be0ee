"""The table of a sweep: its entries, and the lines below it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from recsys_lt.results.cells import Cell
from recsys_lt.results.comparison import Comparison, best_first, outstanding
from recsys_lt.results.numbers import shown, shown_p
from recsys_lt.results.significance import Difference, why_untested
from recsys_lt.results.written_tables import Content, Entry


def content(compared: Comparison, sign: str = "±") -> Content:
    """The table: a row a cell, a section a dataset; ``sign`` stands before a standard deviation."""
    cells = compared.cells
    settings = list(dict.fromkeys(key for cell in cells for key in cell.settings))
    several = len(compared.by_dataset) > 1
    headings = [
        f"{measure}\n{'/'.join(group) or 'overall'}"
        for *group, measure in (metric.split("/") for metric in compared.metrics)
    ]
    tested = [g for g in compared.tested if any(compared.difference(cell, g) is not None for cell in cells)] or [""]
    headings += ["n", *(f"{what}\n{group or 'overall'}" for group in tested for what in ("difference", "p"))]
    sections = []
    for dataset, of_one in compared.by_dataset.items():
        highest = {metric: outstanding(of_one, metric) for metric in compared.metrics}
        rows = []
        for cell in of_one:
            row = [Entry(part) for part in ([dataset] if several else []) + list(cell.identity[1:])]
            row += [Entry(cell.settings.get(key, "-")) for key in settings]
            row += [metric_entry(cell, metric, highest[metric], sign) for metric in compared.metrics]
            failed = f" +{len(cell.failed)} failed" if cell.failed else ""
            row.append(Entry(f"{len(cell.finished)}{failed}", value=float(len(cell.finished))))
            for group in tested:
                found = compared.difference(cell, group)
                if found is None:
                    row += [Entry("-"), Entry("ref" if cell is compared.references[dataset] else "-")]
                else:
                    row += [Entry(_shown_difference(found), value=found.value), Entry(_shown_p(found), value=found.p)]
            rows.append(row)
        sections.append(rows)
    return Content([*(["dataset"] if several else []), "model", "loss", "optimizer", *settings], headings, sections)


def metric_entry(cell: Cell, metric: str, highest: float | None = None, sign: str = "±") -> Entry:
    """A metric of a cell, with its standard deviation over several seeds; marked where it is the highest."""
    mean = cell.mean_std(metric)[0]
    if not cell.finished:
        return Entry("failed", failed=True)
    return Entry(mean_and_std(cell, metric, sign), mean is not None and mean == highest, value=mean)


def mean_and_std(cell: Cell, metric: str, sign: str = "±") -> str:
    """A metric of a cell as text: its mean, and its standard deviation over seeds where there are several."""
    mean, std = cell.mean_std(metric)
    text = shown(metric, mean)
    # A space to break at: in a narrow terminal the spread goes below the mean.
    return text if std is None else f"{text} {sign}{shown(metric, std)}"


def caption(compared: Comparison, mark: str, name: Callable[[Cell], str] = lambda cell: cell.label) -> list[str]:
    """Lines that say how to read the table; ``mark`` says how the best are marked, ``name`` gives a cell's name."""
    lines = [f"Test metrics, mean and sample standard deviation over n runs (seeds); {mark}: best of its dataset."]
    against = "; ".join(
        (f"{dataset}: " if len(compared.references) > 1 else "") + (name(cell) if cell else "no such cell")
        for dataset, cell in compared.references.items()
    )
    known = [found for found in compared.differences.values() if found is not None]
    if known:
        lines += _on_tests(compared, known, against, name)
    elif compared.differences:
        others = ((cell, reference) for cell, reference in _with_reference(compared) if cell.finished)
        reasons = {why_untested(cell, reference) for cell, reference in others if cell is not reference} - {""}
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


def _with_reference(compared: Comparison) -> Iterator[tuple[Cell, Cell]]:
    for dataset, cells in compared.by_dataset.items():
        if (reference := compared.references[dataset]) is not None:
            yield from ((cell, reference) for cell in cells)


def _on_tests(
    compared: Comparison, known: Sequence[Difference], against: str, name: Callable[[Cell], str]
) -> Iterator[str]:
    """What the tests are, over what, and what they could not test."""
    of = {"nonhead": "mid or tail"}
    groups = "".join(f" {group}: users whose target is {of.get(group, group)}." for group in compared.tested if group)
    gain, k = compared.gain
    yield (
        f"Difference: in {gain.upper()}@{k} from {against} (ref{compared.why_reference}), with its 95 % interval. "
        f"p: two-sided, corrected by Holm for the cells of a dataset; the intervals are not corrected.{groups}"
    )
    if any(found.over_seeds for found in known):
        yield "Differences are over users and seeds, so they speak of the methods." + _detectable(compared)
        if any(found.over_seeds and 2 in found.seeds for found in known):
            yield "With two seeds p is rough: use three or more."
    if not all(found.over_seeds for found in known):
        yield (
            "users only: a cell has one seed, so p says whether it differs for these trained models, and nothing "
            "about the methods. Run at least two seeds of each."
        )
    for dataset, cells in compared.by_dataset.items():
        first, reference = (
            min(cells, key=lambda cell: best_first(cell, compared.decisive)),
            compared.references[dataset],
        )
        if reference is not None and first is not reference and compared.difference(first) is None:
            yield f"{name(first)} could not be tested: {why_untested(first, reference)}."


def _detectable(compared: Comparison) -> str:
    """What the seeds at hand can find: the smallest and the largest over cells, for each tested group."""
    said = []
    for group in compared.tested:
        found = (compared.difference(cell, group) for cell in compared.cells)
        sizes = sorted(shown("ndcg", each.detectable) for each in found if each is not None and each.detectable)
        if sizes:
            said.append(f"{' to '.join(dict.fromkeys((sizes[0], sizes[-1])))} ({group or 'overall'})")
    if not said:
        return ""
    return f" With these seeds, a true difference of {', '.join(said)} is detected with about 80 % probability."


def _below(folder: Path, roots: Sequence[Path]) -> Path:
    root = next(root for root in roots if folder.is_relative_to(root))
    return folder.relative_to(root) if folder != root else folder


def _shown_p(found: Difference) -> str:
    return shown_p(found.p) if found.over_seeds else f"users only {shown_p(found.p)}"


def _shown_difference(found: Difference) -> str:
    value, low, high = (f"{number:.4f}".replace("0.", ".", 1) for number in (found.value, found.low, found.high))
    # One space: in a narrow terminal the interval goes below the difference.
    return f"{'' if value.startswith('-') else '+'}{value} [{low},{high}]"
