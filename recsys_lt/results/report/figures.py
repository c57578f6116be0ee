"""Figures of the report: each cell of a dataset is a line or a point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from markupsafe import Markup

from recsys_lt.metrics.groups import GROUPS
from recsys_lt.results.cell_styles import StyledCell, numbers
from recsys_lt.results.cells import Cell, mean_and_spread
from recsys_lt.results.numbers import MISSING, mean_of, shown
from recsys_lt.results.plots import panels
from recsys_lt.results.plots.drawing import canvas, inline_svg
from recsys_lt.results.plots.palette import Look
from recsys_lt.results.plots.run_figures import ALL_HEAD_NONHEAD, HEAD, NONHEAD, curve_of
from recsys_lt.results.written_tables import Content, Entry
from recsys_lt.runs.curve import FILE, read_curve

#: With more cells than this their intervals would cover each other.
_WITH_INTERVALS = 3


@dataclass(frozen=True)
class Illustration:
    """One figure of the report.

    Parameters
    ----------
    title
        Its title.
    caption
        What it shows and how to read it, in a sentence or two.
    svg
        The drawing; None where nothing could be drawn, and ``lacking`` says why.
    numbers
        What was drawn, as a table.
    lacking
        What is not in it, and why: a line each.
    """

    title: str
    caption: str = ""
    svg: Markup | None = None
    numbers: Content | None = None
    lacking: tuple[str, ...] = ()


@cache
def swatch(look: Look) -> Markup:
    """A piece of a cell's line with its mark, for keys and tables."""
    with canvas(0.42, 0.18) as (figure, axes):
        axes.set_axis_off()
        axes.plot([0, 2], [0, 0], color=look.colour.light, linestyle=look.dash)
        axes.plot([1], [0], look.mark, color=look.colour.light, markersize=6)
        axes.set_xlim(-0.1, 2.1)
        return inline_svg(figure, "", "swatch-", "swatch")


def _drawn(draw: Callable[[Any], None], alt: str, prefix: str) -> Markup:
    with canvas() as (figure, axes):
        draw(axes)
        return inline_svg(figure, alt, prefix)


def _grey(cells: Sequence[StyledCell]) -> str:
    """A sentence on the cells without a colour of their own; "" where all have one."""
    grey = [each for each in cells if not each.look.coloured and each.cell.finished]
    if not grey:
        return ""
    coloured = sum(each.look.coloured for each in cells)
    return (
        f" Colours mark the reference and the best of each model, loss and optimizer ({coloured} in all); the other "
        f"{len(grey)} cells are grey."
    )


def _lacking(cells: Sequence[StyledCell], what: str) -> tuple[str, ...]:
    """One line that says which cells' runs hold no ``what``; none where there are no such cells."""
    if not cells:
        return ()
    name = f" ({cells[0].name})" if len(cells) == 1 else ""
    return (f"Not drawn, as the runs hold no {what}: {numbers(cells)}{name}.",)


def _finished(cells: Sequence[StyledCell]) -> list[StyledCell]:
    return [each for each in cells if each.cell.finished]


def learning(cells: Sequence[StyledCell], prefix: str) -> list[Illustration]:
    """Validation NDCG@10 over epochs, of all and of nonhead targets, and the training loss where it compares.

    Parameters
    ----------
    cells
        Cells of one dataset.
    prefix
        Prefix of the ids in the drawings.
    """
    ran = _finished(cells)
    last = max((row["epoch"] for each in ran for row in _history(each)), default=0.0)
    caption = (
        "Mean training loss of each epoch; where it still falls while validation does not rise, the model overfits."
    )
    several_losses = len({each.cell.identity[2] for each in ran}) > 1
    loss = Illustration("Training loss", lacking=("Not drawn: values of different losses do not compare.",))
    if not several_losses:
        loss = _over_epochs(ran, "Training loss", "train/loss", caption, f"{prefix}loss-", last)
    if len(ran) == 1:
        return [_of_groups(ran[0], f"{prefix}learn-", last), loss]
    caption = (
        "Validation NDCG@10 of all users after each epoch that was validated; the higher and the sooner the better."
    )
    figures = [_over_epochs(ran, "Validation NDCG@10", "valid/ndcg@10", caption, f"{prefix}learn-", last)]
    if any(_curves(each, "valid/nonhead/ndcg@10") for each in ran):
        caption = "Validation NDCG@10 of the users whose target is no head item, after each epoch that was validated."
        title = "Validation NDCG@10, mid and tail targets"
        figures.append(_over_epochs(ran, title, "valid/nonhead/ndcg@10", caption, f"{prefix}learn-nonhead-", last))
    return [*figures, loss]


def _history(styled: StyledCell) -> list[dict[str, float]]:
    return [row for run in styled.cell.finished for row in read_curve(run.folder / FILE)]


def _curves(styled: StyledCell, column: str) -> list[panels.Curve]:
    """A column of each run's curve; runs without it are left out."""
    return [curve for run in styled.cell.finished if (curve := curve_of(read_curve(run.folder / FILE), column))]


def _over_epochs(
    cells: Sequence[StyledCell], title: str, column: str, caption: str, prefix: str, last: float
) -> Illustration:
    lines = [(each.look, curves) for each in cells if (curves := _curves(each, column))]
    if not lines:
        return Illustration(title, lacking=(f"Not drawn: no run holds a {FILE} with {column}.",))

    def draw(axes: Any) -> None:
        name = title.split(",")[0]
        panels.learning_curves(axes, lines, name[0].lower() + name[1:], last, column != "train/loss")
        axes.set_xlabel("completed epochs")

    if any(len(curves) > 1 for _, curves in lines):
        caption += " Each thin line is a run, the thick one their mean."
    without = [each for each in cells if not _curves(each, column)]
    svg = _drawn(draw, f"Line chart, a line a cell: {title} over epochs", prefix)
    shown_cells = [each for each in cells if each not in without]
    return Illustration(title, caption + _grey(shown_cells), svg, lacking=_lacking(without, f"{FILE} with {column}"))


def _of_groups(styled: StyledCell, prefix: str, last: float) -> Illustration:
    title = "Validation NDCG@10"
    lines = [(look, curves) for column, look in ALL_HEAD_NONHEAD.items() if (curves := _curves(styled, column))]
    if not lines or lines[0][0].text != "all":
        return Illustration(title, lacking=(f"Not drawn: no run holds a {FILE} with valid/ndcg@10.",))
    alone = len(styled.cell.finished) == 1

    def draw(axes: Any) -> None:
        panels.learning_curves(axes, lines, "validation NDCG@10", last, from_zero=True)
        axes.set_xlabel("completed epochs")
        if alone:
            panels.best_epoch([axes], lines[0][1][0])

    groups = " and of those whose target is a head item, or a mid or tail one" if len(lines) > 1 else ""
    runs, dashed = ("", " (dashed)") if alone else ("; a thin line a run, the thick one their mean", "")
    caption = (
        f"Validation NDCG@10 after each epoch that was validated, of all users{groups}{runs}. "
        f"The test metrics are of the epoch where the line of all is highest{dashed}."
    )
    alt = "Line chart: validation NDCG@10 over epochs, of all, head and nonhead targets"
    return Illustration(title, caption, _drawn(draw, alt, prefix))


def by_popularity(cells: Sequence[StyledCell], prefix: str) -> list[Illustration]:
    """NDCG@10 by popularity of the target, and the share of the lists that each part of the items gets.

    By tenths of the items; by head, mid and tail where no run of the dataset knows its tenths.

    Parameters
    ----------
    cells
        Cells of one dataset.
    prefix
        Prefix of the ids in the drawings.
    """
    ran = _finished(cells)
    rows = {each.number: _mean_rows(each.cell, "deciles") for each in ran}
    name, by_tenths = "items, most popular first", any(rows.values())
    if by_tenths:
        n = len(next(filter(None, rows.values())))
        name, labels = f"tenths of the {name}" if n == 10 else name, [f"{place}" for place in range(1, n + 1)]
    else:
        rows, labels = {each.number: _by_group(each.cell) for each in ran}, list(GROUPS)
    drawn = [each for each in ran if rows[each.number]]
    titles = ("NDCG@10 by popularity of the target", "Exposure")
    if not drawn:
        return [Illustration(title, lacking=("Not drawn: no run measured NDCG@10 by popularity.",)) for title in titles]
    missing = _lacking([each for each in ran if each not in drawn], "long_tail of metrics.json")
    if not by_tenths:
        missing = ("Head, mid and tail stand for tenths of the items: the runs' metrics.json holds no long_tail.",)
    caption = "Test NDCG@10 of the users whose target lies in each part of the items, the most popular items left"
    caption += "; a line that falls less to the right serves rare items better."
    foot = [["users whose target is in it", *(_count(row["users"]) for row in rows[drawn[0].number])]]
    if by_tenths:
        foot = [["training interactions of its items", *(row["label"] for row in rows[drawn[0].number])], *foot]
    ndcg = _of_bins(drawn, rows, (titles[0], caption, name), labels, missing, foot, f"{prefix}ndcg-", by_tenths)
    exposed = [each for each in drawn if all(row["exposure"] is not None for row in rows[each.number])]
    if not exposed:
        return [ndcg, Illustration(titles[1], lacking=("Not drawn: no run measured exposure at 10.",))]

    def draw(axes: Any) -> None:
        panels.exposure(axes, [(each.look, rows[each.number]) for each in exposed], "training interactions")
        panels.bins(axes, labels, name)

    caption = "Share of all places in the lists of ten that each part of the items gets."
    if by_tenths:
        caption += " Bars: its share of training interactions; a point above its bar is shown more than it was chosen."
    svg = _drawn(draw, "Line chart, a line a cell: exposure by popularity of the items", f"{prefix}exposure-")
    table = _numbers(exposed, rows, "exposure", labels, foot)
    return [ndcg, Illustration(titles[1], caption + _grey(exposed), svg, table, missing)]


def by_history(cells: Sequence[StyledCell], prefix: str) -> Illustration:
    """Test NDCG@10 against the number of events before the target; users fall into bins of about the same size.

    Parameters
    ----------
    cells
        Cells of one dataset.
    prefix
        Prefix of the ids in the drawing.
    """
    title = "NDCG@10 by length of the history"
    ran = _finished(cells)
    rows = {each.number: _mean_rows(each.cell, "histories") for each in ran}
    known = [each for each in ran if rows[each.number]]
    if not known:
        return Illustration(title, lacking=("Not drawn: no run's metrics.json holds NDCG by history.",))

    def edges(styled: StyledCell) -> list[tuple[str, float]]:
        return [(row["label"], row["users"]) for row in rows[styled.number]]

    # A run on some of the users has other bins than the rest.
    drawn = [each for each in known if edges(each) == edges(known[0])]
    missing = _lacking([each for each in ran if each not in known], "NDCG by history in metrics.json")
    missing += _lacking([each for each in known if each not in drawn], "NDCG by the same lengths of history")
    caption = "Test NDCG@10 of users by how many events they have before the target; "
    caption += "users with the shortest histories are on the left; about as many users in each."
    labels = [label for label, _ in edges(known[0])]
    foot = [["users", *(_count(users) for _, users in edges(known[0]))]]
    words = (title, caption, "events in the user's history before the target")
    return _of_bins(drawn, rows, words, labels, missing, foot, f"{prefix}history-", False)


def _of_bins(
    drawn: Sequence[StyledCell], rows: dict[int, list[panels.Row]], words: tuple[str, str, str],
    labels: Sequence[str], missing: tuple[str, ...], foot: list[list[str]], prefix: str, intervals: bool,
) -> Illustration:  # fmt: skip
    """NDCG@10 of each bin; ``words`` are title, caption and the name of the horizontal axis."""
    title, caption, name = words
    intervals = intervals and len(drawn) <= _WITH_INTERVALS

    def draw(axes: Any) -> None:
        panels.ndcg_by_bin(axes, [(each.look, rows[each.number]) for each in drawn], intervals)
        panels.bins(axes, labels, name)

    if intervals:
        several = any(len(each.cell.finished) > 1 for each in drawn)
        caption += f" Bars: 95 % bootstrap intervals over users{', means over the runs' if several else ''}"
        caption += f"; hollow: fewer than {panels.FEW} users."
    svg = _drawn(draw, f"Line chart, a line a cell: {title}", prefix)
    return Illustration(title, caption + _grey(drawn), svg, _numbers(drawn, rows, "ndcg@10", labels, foot), missing)


def _mean_rows(cell: Cell, name: str) -> list[panels.Row]:
    """Bins of a cell, means over its runs; empty unless every run has them, and the same ones."""
    tables = [_table(run.metrics or {}, name) for run in cell.finished]
    if len({tuple(row["label"] for row in table) for table in tables}) != 1:
        return []
    return [
        {key: mean_of(rows, key) if isinstance(value, int | float | None) else value for key, value in rows[0].items()}
        for rows in zip(*tables, strict=True)
    ]


def _table(metrics: dict[str, Any], name: str) -> list[panels.Row]:
    long_tail = metrics.get("long_tail")
    rows = (long_tail.get(name) if isinstance(long_tail, dict) else None) or []
    ends = ("most", "least") if name == "deciles" else ("shortest", "longest")
    keys = ("ndcg@10", "low", "high", "users", *(("exposure", "interactions") if name == "deciles" else ()))
    return [{"label": panels.span(row[ends[0]], row[ends[1]])} | {key: row.get(key) for key in keys} for row in rows]


def _by_group(cell: Cell) -> list[panels.Row]:
    keys = {"ndcg@10": "ndcg@10", "exposure": "exposure@10", "users": "users"}
    rows: list[panels.Row] = [
        {key: cell.mean_std(f"{group}/{name}")[0] for key, name in keys.items()} for group in GROUPS
    ]
    return rows if any(row["ndcg@10"] is not None for row in rows) else []


def _count(users: float | None) -> str:
    return MISSING if users is None else f"{users:,.0f}"


def _numbers(
    drawn: Sequence[StyledCell], rows: dict[int, list[panels.Row]], key: str, labels: Sequence[str],
    foot: list[list[str]],
) -> Content:  # fmt: skip
    body = [
        [*each.entries, *(Entry(shown(key, row[key]), value=row[key]) for row in rows[each.number])] for each in drawn
    ]
    return Content(["#", "cell"], list(labels), [[*body, *([Entry(""), *map(Entry, line)] for line in foot)]])


def tradeoff(cells: Sequence[StyledCell], prefix: str) -> Illustration:
    """NDCG@10 of head targets across, of mid and tail targets up.

    Parameters
    ----------
    cells
        Cells of one dataset.
    prefix
        Prefix of the ids in the drawing.
    """
    return _scatter(
        cells,
        ("NDCG@10, head targets", lambda cell: cell.mean_std(HEAD)),
        ("NDCG@10, mid and tail targets", lambda cell: cell.mean_std(NONHEAD)),
        "Head against nonhead",
        "Test NDCG@10 for popular targets (across) and for all others (up), a point a cell; a cell above and right of "
        "another is better for both, one above and left pays with the head for the tail.",
        "NDCG@10 of head and nonhead targets",
        f"{prefix}tradeoff-",
    )


def _scatter(
    cells: Sequence[StyledCell], across: tuple[str, Callable[[Cell], panels.Point]],
    up: tuple[str, Callable[[Cell], panels.Point]], title: str, caption: str, what: str, prefix: str,
    orders: bool = False,
) -> Illustration:  # fmt: skip
    """Scatter plot of the cells that have both sides; ``what`` is what the others lack."""
    ran = _finished(cells)
    points = {each.number: (across[1](each.cell), up[1](each.cell)) for each in ran}
    drawn = [each for each in ran if all(mean is not None for mean, _ in points[each.number])]
    missing = _lacking([each for each in ran if each not in drawn], what)
    if not drawn:
        return Illustration(title, lacking=missing or ("Not drawn: no run has finished.",))
    if len(ran) == 1:
        (x, _), (y, _) = points[ran[0].number]
        words = f"Not drawn, as there is one configuration: {across[0]} {x:.4g}, {up[0]} {y:.4g}."
        return Illustration(title, lacking=(words,))

    def draw(axes: Any) -> None:
        panels.scatter(axes, [(each.look, *points[each.number]) for each in drawn], (across[0], up[0]), orders)

    if any(len(each.cell.finished) > 1 for each in drawn):
        caption += " Bars: standard deviation over seeds."
    svg = _drawn(draw, f"Scatter plot, a point a cell: {up[0]} against {across[0]}", prefix)
    return Illustration(title, caption + _grey(drawn), svg, lacking=missing)


def cost(cells: Sequence[StyledCell], decisive: str, prefix: str) -> Illustration:
    """A test metric against training time, and a table of the runs' cost.

    Parameters
    ----------
    cells
        Cells of one dataset.
    decisive
        The metric.
    prefix
        Prefix of the ids in the drawing.
    """
    *group, measure = decisive.split("/")
    name = f"{measure.upper()}{', ' + group[0] + ' targets' if group else ''}"
    drawn = _scatter(
        cells,
        ("minutes of training", lambda cell: _cost(cell, _minutes)),
        (f"test {name}", lambda cell: cell.mean_std(decisive)),
        "Accuracy against training time",
        f"Test {name} against the minutes a run's epochs took (median epoch times their number, validation not "
        "counted); up and left is better. Times compare only between runs on the same machine, left to themselves.",
        "training time",
        f"{prefix}cost-",
        orders=True,
    )
    rows = []
    for each in _finished(cells):
        row = each.entries
        for read, form in _COSTS.values():
            mean = _cost(each.cell, read)[0]
            row.append(Entry(MISSING if mean is None else form.format(mean), value=mean))
        row.append(Entry(", ".join(sorted({_machine(run.metrics or {}) for run in each.cell.finished}))))
        rows.append(row)
    table = Content(["#", "cell"], [*_COSTS, "on"], [rows])
    return Illustration(drawn.title, drawn.caption, drawn.svg, table, drawn.lacking)


def _train(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda metrics: metrics.get("train", {}).get(key)


def _minutes(metrics: dict[str, Any]) -> float | None:
    seconds, epochs = metrics.get("train", {}).get("seconds_per_epoch"), metrics.get("epochs")
    return seconds * epochs / 60 if seconds and epochs else None


_COSTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "minutes\nof training": (_minutes, "{:,.1f}"),
    "seconds\nan epoch": (_train("seconds_per_epoch"), "{:,.2f}"),
    "epochs": (lambda metrics: metrics.get("epochs"), "{:,.0f}"),
    "best\nepoch": (lambda metrics: metrics.get("best_epoch"), "{:,.0f}"),
    "seconds\nto rank": (_train("eval_seconds"), "{:,.2f}"),
    "peak\nMB": (_train("peak_rss_mb"), "{:,.0f}"),
    "parameters": (_train("parameters"), "{:,.0f}"),
    "trained": (_train("trained_parameters"), "{:,.0f}"),
}


def _cost(cell: Cell, read: Callable[[dict[str, Any]], Any]) -> panels.Point:
    """Mean and standard deviation over a cell's runs; None unless all of them noted it."""
    values = [read(run.metrics or {}) for run in cell.finished]
    known = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return mean_and_spread(known) if len(known) == len(values) else (None, None)


def _machine(metrics: dict[str, Any]) -> str:
    train = metrics.get("train", {})
    threads = train.get("threads")
    return str(train.get("device", MISSING)) + (f", {threads} threads" if threads and threads > 1 else "")
