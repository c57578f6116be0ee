"""Tables of a sweep and of a single cell, and the lines below them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_lt.metrics.groups import GROUPS
from recsys_lt.results.cell_styles import StyledCell
from recsys_lt.results.cells import Cell
from recsys_lt.results.comparison import Comparison, best_first, outstanding
from recsys_lt.results.field_terms import metric_and_group, term
from recsys_lt.results.significance import Difference, why_untested
from recsys_lt.results.written_tables import MISSING, Content, Entry, in_protocol, shown, shown_p, terminal
from recsys_lt.runs.listing import ListedRun

if TYPE_CHECKING:
    from rich.console import Console

_EXPOSURE = {
    "coverage": "coverage",
    "gini": "Gini",
    "arp": "ARP",
    "aplt": "APLT",
    **{f"{group}/exposure": f"share of\n{group}" for group in GROUPS},
}
_FIRST_CODES = {
    "first_code/gini@10": "Gini over\nfirst codes",
    "first_code/targets_gini": "the same\nof targets",
    "first_code/distance@10": "distance\nto targets",
}
_GROUPS = ("", *(f"{group}/" for group in GROUPS), "nonhead/")
_METRICS = ("ndcg", "hr", "mrr")  # NDCG first: it selects the epoch
_PROTOCOL = {
    **{key: f"{{}} {key}" for key in ("users", "items", "interactions")}, "split": "{}", "ranking": "ranking {}",
    "mask_seen": "mask seen {}", "ties": "ties {}", "groups": "{} of the items",
    "groups_by": "groups by {}", "selection": "epoch of {}",
}  # fmt: skip
_MORE = {
    "NDCG@10, seen items not masked": "unmasked/ndcg@10",
    "NDCG@10, retriever alone": "retriever/ndcg@10",
    "NDCG@10, its candidates in random order": "random_order/ndcg@10",
    "its standard deviation over orders": "random_order/ndcg_std@10",
    "position bias": "position_bias",
    "generated titles in the catalogue": "generated/catalogue",
    "generated titles of the history": "generated/history",
}


def content(compared: Comparison, sign: str = "±") -> Content:
    """The table: a row a cell, a section a dataset; ``sign`` stands before a standard deviation."""
    cells = compared.cells
    settings = list(dict.fromkeys(key for cell in cells for key in cell.settings))
    several = len(compared.by_dataset) > 1
    groups = list(dict.fromkeys(metric_and_group(metric)[1] for metric in compared.metrics))
    metrics = sorted(compared.metrics, key=lambda metric: groups.index(metric_and_group(metric)[1]))
    headings = ["\n".join(reversed(metric_and_group(metric))) for metric in metrics]
    tested = [g for g in compared.tested if any(compared.difference(cell, g) is not None for cell in cells)] or [""]
    headings += ["n", *(f"{term(group or 'overall')}\n{what}" for group in tested for what in ("difference", "p"))]
    sections = []
    for dataset, of_one in compared.by_dataset.items():
        highest = {metric: outstanding(of_one, metric) for metric in metrics}
        rows = []
        for cell in of_one:
            row = [Entry(part) for part in ([dataset] if several else []) + list(cell.identity[1:])]
            row += [Entry(cell.settings.get(key, "-")) for key in settings]
            row += [metric_entry(cell, metric, highest[metric], sign) for metric in metrics]
            failed = f" +{len(cell.failed)} failed" if cell.failed else ""
            row.append(Entry(f"{len(cell.finished)}{failed}", value=float(len(cell.finished))))
            for group in tested:
                found = compared.difference(cell, group)
                if found is None:
                    row += [Entry("-"), Entry("ref" if cell is compared.references[dataset] else "-")]
                else:
                    p = shown_p(found.p) if found.over_seeds else f"users only {shown_p(found.p)}"
                    row += [Entry(_shown_difference(found), value=found.value), Entry(p, value=found.p)]
            rows.append(row)
        sections.append(rows)
    return Content([*(["dataset"] if several else []), "model", "loss", "optimizer", *settings], headings, sections)


def metric_entry(cell: Cell, metric: str, highest: str | None = None, sign: str = "±") -> Entry:
    """A metric of a cell, with its standard deviation over several seeds; marked where it looks like the highest."""
    mean = cell.mean_std(metric)[0]
    if not cell.finished:
        return Entry("failed", failed=True)
    return Entry(mean_and_std(cell, metric, sign), mean is not None and shown(metric, mean) == highest, value=mean)


def mean_and_std(cell: Cell, metric: str, sign: str = "±") -> str:
    """A metric of a cell as text: its mean, and its standard deviation over seeds where there are several."""
    mean, std = cell.mean_std(metric)
    text = shown(metric, mean)
    # A space to break at: in a narrow terminal the spread goes below the mean.
    return text if std is None else f"{text} {sign}{shown(metric, std)}"


def caption(compared: Comparison, mark: str, name: Callable[[Cell], str] = lambda cell: cell.label) -> list[str]:
    """Lines that say how to read the table; ``mark`` says how the best are marked, ``name`` gives a cell's name."""
    lines = [f"Test metrics, mean and sample standard deviation over n runs (seeds); {mark}: best of its dataset."]
    for dataset, cells in compared.by_dataset.items():
        runs = [run for cell in cells for run in cell.finished]
        if runs:
            said = protocol_line((runs[0].metrics or {}).get("protocol", {}))
            lines.append(f"{term(dataset)}: {said}; seeds {', '.join(dict.fromkeys(str(run.seed) for run in runs))}.")
    against = "; ".join(
        (f"{term(dataset)}: " if len(compared.references) > 1 else "") + (name(cell) if cell else "no such cell")
        for dataset, cell in compared.references.items()
    )
    known = [found for found in compared.differences.values() if found is not None]
    if known:
        lines += _on_tests(compared, known, against, name)
    elif compared.differences:
        reasons = {
            why_untested(cell, reference)
            for dataset, cells in compared.by_dataset.items()
            if (reference := compared.references[dataset]) is not None
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


def protocol_line(protocol: Mapping[str, Any]) -> str:
    """Data and protocol of a run in one line, as far as it says them."""
    known = {key: protocol[key] for key in _PROTOCOL if protocol.get(key) is not None}
    return "; ".join(_PROTOCOL[key].format(in_protocol(key, value)) for key, value in known.items())


def _on_tests(
    compared: Comparison, known: Sequence[Difference], against: str, name: Callable[[Cell], str]
) -> Iterator[str]:
    """What the tests are, over what, and what they could not test."""
    of = {
        "nonhead": "users whose target is mid or tail",
        "uniform": "items, each by the mean over the users whose target it is",
    }
    groups = "".join(
        f" {group}: {of.get(group, f'users whose target is {group}')}." for group in compared.tested if group
    )
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
        first = min(cells, key=lambda cell: best_first(cell, compared.decisive))
        reference = compared.references[dataset]
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
    return (
        f" With these seeds, a true difference of {', '.join(said)} is detected with about 80 % probability,"
        " or less if a cell has two or three seeds."
    )


def _below(folder: Path, roots: Sequence[Path]) -> Path:
    root = next(root for root in roots if folder.is_relative_to(root))
    return folder.relative_to(root) if folder != root else folder


def _shown_difference(found: Difference) -> str:
    value, low, high = (f"{number:.4f}".replace("0.", ".", 1) for number in (found.value, found.low, found.high))
    # One space: in a narrow terminal the interval goes below the difference.
    return f"{'' if value.startswith('-') else '+'}{value} [{low},{high}]"


def exposure_table(cells: Sequence[StyledCell]) -> Content | None:
    """Popularity metrics of the lists of ten, a row a cell of one dataset; None where no cell measured any."""
    ran = [each for each in cells if each.cell.finished]
    known = {f"{name}@10": words for name, words in _EXPOSURE.items()} | _FIRST_CODES
    known = {metric: words for metric, words in known.items() if any(each.cell.values(metric) for each in ran)}
    if not known:
        return None
    highest = {metric: outstanding([each.cell for each in ran], metric) for metric in known}
    rows = [[*each.entries, *(metric_entry(each.cell, metric, highest[metric]) for metric in known)] for each in ran]
    return Content(["#", "cell"], list(known.values()), [rows])


def metrics_by_group(cell: Cell) -> Content:
    """All ranking metrics of a finished cell, overall and by popularity of the target: those at 10 first."""
    test = (cell.finished[0].metrics or {})["test"]
    lengths = {int(metric.partition("@")[2]) for metric in test if metric.partition("@")[0] in _METRICS}
    sections = [
        [
            [Entry(f"{name.upper()}@{k}"), *(metric_entry(cell, f"{group}{name}@{k}") for group in _GROUPS)]
            for name in _METRICS
            if f"{name}@{k}" in test
        ]
        for k in sorted(lengths, key=lambda k: (k != 10, k))
    ]
    blank = [Entry(MISSING)] * (len(_GROUPS) - 1)
    last = [[Entry(words), metric_entry(cell, name), *blank] for words, name in _MORE.items() if name in test]
    users = [cell.mean_std(f"{group}users")[0] for group in _GROUPS]
    last.append([Entry("users"), *(Entry(shown("users", n), value=n) for n in users)])
    return Content(["metric"], [group.removesuffix("/") or "overall" for group in _GROUPS], [*sections, last])


def in_a_line(metrics: Mapping[str, Any]) -> str:
    """NDCG overall and by group, best epoch and seconds of a run, from the content of metrics.json."""
    stage, test = ("test", metrics["test"]) if "test" in metrics else ("validation", metrics["valid"])
    k = next((name.partition("@")[2] for name in ("ndcg@10", *test) if name.startswith("ndcg@") and name in test), "10")
    groups = ", ".join(f"{group} {shown(f'ndcg@{k}', test.get(f'{group}/ndcg@{k}'))}" for group in GROUPS)
    epochs = f"epoch {metrics['best_epoch']} of {metrics['epochs']}"
    return f"{stage} NDCG@{k} {shown(f'ndcg@{k}', test.get(f'ndcg@{k}'))} ({groups}) at {epochs}"


def print_final_table(metrics: Mapping[str, Any], console: Console) -> None:
    """Print test metrics overall and by popularity of the target, exposure metrics, and the protocol.

    ``metrics`` is the content of metrics.json. The metrics at 10 are bold. The table takes no more than 80 columns.
    """
    from rich.text import Text

    run = ListedRun(Path(), dict(metrics))
    table = metrics_by_group(Cell(run.identity, {}, (run,), ()))
    table.sections[0][:] = [[entry._replace(best=True) for entry in row] for row in table.sections[0]]
    k = table.sections[0][0][0].text.partition("@")[2]
    recommended = (f"{words} {shown(name, metrics['test'].get(f'{name}@{k}'))}" for name, words in _EXPOSURE.items())
    names = ", ".join(part for part in run.identity if part != "-")
    title = f"{names}, seed {run.seed}: test at epoch {metrics['best_epoch']} of {metrics['epochs']}"
    protocol = (
        f"{key.replace('_', ' ')} {in_protocol(key, value)}"
        for key, value in metrics.get("protocol", {}).items()
        if value is not None
    )
    console.print(Text(title, style="bold"))
    console.print(terminal(table))
    console.print(Text(f"recommended@{k}: {', '.join(recommended)}".replace("\n", " ")))
    console.print(Text(f"protocol: {'; '.join(protocol)}"))
