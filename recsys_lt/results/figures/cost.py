"""What accuracy costs."""

import math
from collections.abc import Sequence
from typing import Any

from recsys_lt.results.cast import Member
from recsys_lt.results.cells import Cell
from recsys_lt.results.figures.scatter import MeanStd, scatter
from recsys_lt.results.illustration import Illustration
from recsys_lt.results.numbers import MISSING
from recsys_lt.results.written_tables import Content, Entry


def cost(members: Sequence[Member], decisive: str, prefix: str) -> Illustration:
    """A test metric against the time its training took, and what else the runs noted of their cost.

    Parameters
    ----------
    members
        Cells of one dataset.
    decisive
        The metric.
    prefix
        For the ids in the drawing.
    """
    ran = [member for member in members if member.cell.finished]
    *group, measure = decisive.split("/")
    name = f"{measure.upper()}{', ' + group[0] + ' targets' if group else ''}"
    drawn = scatter(
        members,
        ("minutes of training", _minutes),
        (f"test {name}", lambda cell: cell.mean_std(decisive)),
        "Accuracy against training time",
        f"Test {name} against the minutes a run's epochs took (median epoch times their number, validation not "
        "counted); up and left is better. Times compare only between runs on the same machine, left to themselves.",
        "training time",
        f"{prefix}cost-",
        orders=True,
    )
    return Illustration(drawn.title, drawn.caption, drawn.svg, _numbers(ran), drawn.lacking)


def _values(cell: Cell, key: str) -> list[Any]:
    return [(run.metrics or {}).get("train", {}).get(key) for run in cell.finished]


def _mean_std(values: Sequence[Any]) -> MeanStd:
    known = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if not known or len(known) < len(values):
        return None, None
    mean = math.fsum(known) / len(known)
    if len(known) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1))


def _minutes(cell: Cell) -> MeanStd:
    epochs = [(run.metrics or {}).get("epochs") for run in cell.finished]
    seconds = _values(cell, "seconds_per_epoch")
    return _mean_std([a * b / 60 if a and b else None for a, b in zip(seconds, epochs, strict=True)])


def _numbers(members: Sequence[Member]) -> Content:
    columns = {
        "minutes\nof training": (_minutes, "{:,.1f}"),
        "seconds\nan epoch": (lambda cell: _mean_std(_values(cell, "seconds_per_epoch")), "{:,.2f}"),
        "epochs": (lambda cell: _mean_std([(run.metrics or {}).get("epochs") for run in cell.finished]), "{:,.0f}"),
        "best\nepoch": (
            lambda cell: _mean_std([(run.metrics or {}).get("best_epoch") for run in cell.finished]),
            "{:,.0f}",
        ),
        "seconds\nto rank": (lambda cell: _mean_std(_values(cell, "eval_seconds")), "{:,.2f}"),
        "peak\nMB": (lambda cell: _mean_std(_values(cell, "peak_rss_mb")), "{:,.0f}"),
        "parameters": (lambda cell: _mean_std(_values(cell, "parameters")), "{:,.0f}"),
        "trained": (lambda cell: _mean_std(_values(cell, "trained_parameters")), "{:,.0f}"),
    }
    rows = []
    for member in members:
        row = [Entry(str(member.number), value=member.number), Entry(member.name)]
        for mean_of, form in columns.values():
            mean = mean_of(member.cell)[0]
            row.append(Entry(MISSING if mean is None else form.format(mean), value=mean))
        row.append(Entry(", ".join(sorted({_machine(run.metrics or {}) for run in member.cell.finished}))))
        rows.append(row)
    return Content(["#", "cell"], [*columns, "on"], [rows])


def _machine(metrics: dict[str, Any]) -> str:
    train = metrics.get("train", {})
    threads = train.get("threads")
    return str(train.get("device", MISSING)) + (f", {threads} threads" if threads and threads > 1 else "")
