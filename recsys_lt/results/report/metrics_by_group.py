"""All ranking metrics of one cell, overall and by popularity of the target."""

from recsys_lt.metrics.groups import GROUPS
from recsys_lt.results.cells import Cell
from recsys_lt.results.numbers import MISSING, shown
from recsys_lt.results.sweep_table import mean_and_std
from recsys_lt.results.written_tables import Content, Entry

_COLUMNS = ("", *(f"{group}/" for group in GROUPS), "nonhead/")


#: NDCG first: it is what selects the epoch.
_ORDER = ("ndcg", "hr", "mrr")

#: What an order of a first stage's candidates is compared with.
_FIRST_STAGE = {
    "NDCG@10, retriever alone": "retriever/ndcg@10",
    "NDCG@10, its candidates in random order": "random_order/ndcg@10",
}


def _place(metric: str) -> tuple[bool, int, int]:
    name, k = metric.split("@")
    return int(k) != 10, int(k), _ORDER.index(name)


def metrics_by_group(cell: Cell) -> Content:
    """A row a metric, a column a group.

    Parameters
    ----------
    cell
        A finished one.
    """
    test = (cell.finished[0].metrics or {})["test"]
    known = [metric for metric in test if "/" not in metric and metric.split("@")[0] in _ORDER]
    known.sort(key=_place)
    rows = []
    for metric in known:
        row = [Entry(metric.upper())]
        for group in _COLUMNS:
            row.append(Entry(mean_and_std(cell, group + metric), value=cell.mean_std(group + metric)[0]))
        rows.append(row)
    for words, metric in _FIRST_STAGE.items():
        if metric in test:
            overall = Entry(mean_and_std(cell, metric), value=cell.mean_std(metric)[0])
            rows.append([Entry(words), overall, *[Entry(MISSING)] * (len(_COLUMNS) - 1)])
    users = [(f"{group}users", cell.mean_std(f"{group}users")[0]) for group in _COLUMNS]
    rows.append([Entry("users"), *(Entry(shown(metric, value), value=value) for metric, value in users)])
    return Content(["metric"], [group.removesuffix("/") or "overall" for group in _COLUMNS], [rows])
