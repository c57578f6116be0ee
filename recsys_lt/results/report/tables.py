"""Tables of the report: metrics by group of a single cell, and what the lists of ten hold."""

from collections.abc import Sequence

from recsys_lt.metrics.groups import GROUPS
from recsys_lt.results.cell_styles import StyledCell
from recsys_lt.results.cells import Cell
from recsys_lt.results.comparison import outstanding
from recsys_lt.results.numbers import MISSING, shown
from recsys_lt.results.sweep_table import metric_entry
from recsys_lt.results.written_tables import Content, Entry

_EXPOSURE = {
    "coverage@10": "coverage",
    "gini@10": "Gini",
    "arp@10": "ARP",
    "aplt@10": "APLT",
    **{f"{group}/exposure@10": f"share of\n{group}" for group in GROUPS},
}
_GROUPS = ("", *(f"{group}/" for group in GROUPS), "nonhead/")
_METRICS = ("ndcg", "hr", "mrr")  # NDCG first: it selects the epoch
_FIRST_STAGE = {
    "NDCG@10, retriever alone": "retriever/ndcg@10",
    "NDCG@10, its candidates in random order": "random_order/ndcg@10",
}


def exposure_table(cells: Sequence[StyledCell]) -> Content | None:
    """Popularity metrics of the lists of ten, a row a cell of one dataset; None where no cell measured any."""
    ran = [each for each in cells if each.cell.finished]
    known = [metric for metric in _EXPOSURE if any(each.cell.values(metric) for each in ran)]
    if not known:
        return None
    highest = {metric: outstanding([each.cell for each in ran], metric) for metric in known}
    rows = [[*each.entries, *(metric_entry(each.cell, metric, highest[metric]) for metric in known)] for each in ran]
    return Content(["#", "cell"], [_EXPOSURE[metric] for metric in known], [rows])


def metrics_by_group(cell: Cell) -> Content:
    """All ranking metrics of a finished cell, overall and by popularity of the target."""
    test = (cell.finished[0].metrics or {})["test"]
    known = [(name, int(k)) for name, _, k in (metric.partition("@") for metric in test) if name in _METRICS]
    known.sort(key=lambda metric: (metric[1] != 10, metric[1], _METRICS.index(metric[0])))
    rows = [
        [Entry(f"{name.upper()}@{k}"), *(metric_entry(cell, f"{group}{name}@{k}") for group in _GROUPS)]
        for name, k in known
    ]
    for words, metric in _FIRST_STAGE.items():
        if metric in test:
            rows.append([Entry(words), metric_entry(cell, metric), *[Entry(MISSING)] * (len(_GROUPS) - 1)])
    users = [cell.mean_std(f"{group}users")[0] for group in _GROUPS]
    rows.append([Entry("users"), *(Entry(shown("users", n), value=n) for n in users)])
    return Content(["metric"], [group.removesuffix("/") or "overall" for group in _GROUPS], [rows])
