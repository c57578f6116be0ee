"""Figures of the report: each cell of a dataset is a line or a point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from recsys_lt.runs.reading import CURVE, read_curve

#: With more cells than this their intervals would cover each other.
_WITH_INTERVALS = 3
_Rows = dict[StyledCell, list[panels.Row]]
#: What an axis of a scatter plot shows, and its value for a cell.
_Side = tuple[str, Callable[[Cell], panels.Point]]


@dataclass(frozen=True)
class Illustration:
    """One figure of the report, with a caption that says in a sentence or two what it shows and how to read it.

    ``svg`` is None where nothing could be drawn. ``numbers`` is what was drawn, as a table; ``lacking`` is what is not
    in it, and why: a line each.
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


class Figures:
    """Figures of the cells of one dataset; ``prefix`` keeps the ids of their drawings apart from those of others."""

    def __init__(self, cells: Sequence[StyledCell], prefix: str) -> None:
        self.cells = [each for each in cells if each.cell.finished]
        self.prefix = prefix
        self._histories = {
            each.number: [read_curve(run.folder / CURVE) for run in each.cell.finished] for each in self.cells
        }
        self._last = max((row["epoch"] for runs in self._histories.values() for run in runs for row in run), default=0)

    def _drawn(self, draw: Callable[[Any], None], alt: str, name: str) -> Markup:
        with canvas() as (figure, axes):
            draw(axes)
            return inline_svg(figure, alt, f"{self.prefix}{name}-")

    def learning(self) -> list[Illustration]:
        """Validation NDCG@10 over epochs, of all and of nonhead targets, and the training loss where it compares."""
        loss = Illustration("Training loss", lacking=("Not drawn: values of different losses do not compare.",))
        if len({each.cell.identity[2] for each in self.cells}) <= 1:
            caption = (
                "Mean training loss of each epoch; where it falls but validation does not rise, the model overfits."
            )
            loss = self._over_epochs("Training loss", "train/loss", caption, "loss")
        if len(self.cells) == 1:
            return [self._of_groups(), loss]
        caption = "Validation NDCG@10 of all users after each validated epoch; the higher and the sooner the better."
        figures = [self._over_epochs("Validation NDCG@10", "valid/ndcg@10", caption, "learn")]
        if any(self._curves(each, "valid/nonhead/ndcg@10") for each in self.cells):
            caption = "Validation NDCG@10 of the users whose target is no head item, after each validated epoch."
            title = "Validation NDCG@10, mid and tail targets"
            figures.append(self._over_epochs(title, "valid/nonhead/ndcg@10", caption, "learn-nonhead"))
        return [*figures, loss]

    def _curves(self, styled: StyledCell, column: str) -> list[panels.Curve]:
        """A column of each run's curve; runs without it are left out."""
        return [curve for run in self._histories[styled.number] if (curve := curve_of(run, column))]

    def _over_epochs(self, title: str, column: str, caption: str, name: str) -> Illustration:
        curves = {each: self._curves(each, column) for each in self.cells}
        drawn = [each for each in self.cells if curves[each]]
        if not drawn:
            return Illustration(title, lacking=(f"Not drawn: no run holds a {CURVE} with {column}.",))

        def draw(axes: Any) -> None:
            lines = [(each.look, curves[each]) for each in drawn]
            label = "training loss" if column == "train/loss" else "validation NDCG@10"
            panels.learning_curves(axes, lines, label, self._last, column != "train/loss")
            axes.set_xlabel("completed epochs")

        if any(len(curves[each]) > 1 for each in drawn):
            caption += " Each thin line is a run, the thick one their mean."
        svg = self._drawn(draw, f"Line chart, a line a cell: {title} over epochs", name)
        without = [each for each in self.cells if each not in drawn]
        return Illustration(title, caption + _grey(drawn), svg, lacking=_lacking(without, f"{CURVE} with {column}"))

    def _of_groups(self) -> Illustration:
        """Validation NDCG@10 of a single cell: all, head and nonhead targets."""
        title, (styled,) = "Validation NDCG@10", self.cells
        lines = [(look, curves) for key, look in ALL_HEAD_NONHEAD.items() if (curves := self._curves(styled, key))]
        if not lines or lines[0][0].text != "all":
            return Illustration(title, lacking=(f"Not drawn: no run holds a {CURVE} with valid/ndcg@10.",))
        alone = len(styled.cell.finished) == 1

        def draw(axes: Any) -> None:
            panels.learning_curves(axes, lines, "validation NDCG@10", self._last, from_zero=True)
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
        return Illustration(title, caption, self._drawn(draw, alt, "learn"))

    def by_popularity(self) -> list[Illustration]:
        """NDCG@10 by popularity of the target, and the share of the lists that each part of the items gets.

        By tenths of the items; by head, mid and tail where no run of the dataset knows its tenths.
        """
        titles = ("NDCG@10 by popularity of the target", "Exposure")
        rows = {each: _mean_rows(each.cell, "deciles") for each in self.cells}
        by_tenths = any(rows.values())
        if not by_tenths:
            rows = {each: _by_group(each.cell) for each in self.cells}
        rows = {each: of_cell for each, of_cell in rows.items() if of_cell}
        if not rows:
            return [
                Illustration(each, lacking=("Not drawn: no run measured NDCG@10 by popularity.",)) for each in titles
            ]
        first = next(iter(rows.values()))
        users = ["users whose target is in it", *(shown("users", row["users"]) for row in first)]
        foot, labels, name = [users], list(GROUPS), "items, most popular first"
        missing: tuple[str, ...] = (
            "Head, mid and tail stand for tenths of the items: the runs' metrics.json holds no long_tail.",
        )
        if by_tenths:
            foot = [["training interactions of its items", *(row["label"] for row in first)], users]
            labels, name = [f"{place}" for place in range(1, len(first) + 1)], "tenths of the items, most popular first"
            missing = _lacking([each for each in self.cells if each not in rows], "long_tail of metrics.json")
        caption = "Test NDCG@10 of the users whose target lies in each part of the items, the most popular items left"
        caption += "; a line that falls less to the right serves rare items better."
        ndcg = self._of_bins(rows, (titles[0], caption, name), labels, missing, foot, "ndcg", by_tenths)
        exposed = {each: r for each, r in rows.items() if all(row["exposure"] is not None for row in r)}
        if not exposed:
            return [ndcg, Illustration(titles[1], lacking=("Not drawn: no run measured exposure at 10.",))]

        def draw(axes: Any) -> None:
            panels.exposure(axes, [(each.look, r) for each, r in exposed.items()], "training interactions")
            panels.bins(axes, labels, name)

        caption = "Share of all places in the lists of ten that each part of the items gets."
        if by_tenths:
            caption += (
                " Bars: its share of training interactions; a point above its bar is shown more than it was chosen."
            )
        svg = self._drawn(draw, "Line chart, a line a cell: exposure by popularity of the items", "exposure")
        table = _numbers(exposed, "exposure", labels, foot)
        return [ndcg, Illustration(titles[1], caption + _grey(list(exposed)), svg, table, missing)]

    def by_history(self) -> Illustration:
        """Test NDCG@10 against the number of events before the target; users fall into bins of about the same size."""
        title = "NDCG@10 by length of the history"
        known = {each: rows for each in self.cells if (rows := _mean_rows(each.cell, "histories"))}
        if not known:
            return Illustration(title, lacking=("Not drawn: no run's metrics.json holds NDCG by history.",))
        edges = {each: [(row["label"], row["users"]) for row in rows] for each, rows in known.items()}
        first = next(iter(edges.values()))
        # A run on some of the users has other bins than the rest.
        drawn = {each: rows for each, rows in known.items() if edges[each] == first}
        missing = _lacking([each for each in self.cells if each not in known], "NDCG by history in metrics.json")
        missing += _lacking([each for each in known if each not in drawn], "NDCG by the same lengths of history")
        caption = "Test NDCG@10 of users by how many events they have before the target; "
        caption += "users with the shortest histories are on the left; about as many users in each."
        words = (title, caption, "events in the user's history before the target")
        foot = [["users", *(shown("users", users) for _, users in first)]]
        return self._of_bins(drawn, words, [label for label, _ in first], missing, foot, "history", False)

    def _of_bins(
        self, rows: _Rows, words: tuple[str, str, str], labels: Sequence[str], missing: tuple[str, ...],
        foot: list[list[str]], name: str, intervals: bool,
    ) -> Illustration:  # fmt: skip
        """NDCG@10 of each bin; ``words`` are title, caption and the label of the horizontal axis."""
        title, caption, label = words
        intervals = intervals and len(rows) <= _WITH_INTERVALS

        def draw(axes: Any) -> None:
            panels.ndcg_by_bin(axes, [(each.look, of_cell) for each, of_cell in rows.items()], intervals)
            panels.bins(axes, labels, label)

        if intervals:
            several = any(len(each.cell.finished) > 1 for each in rows)
            caption += f" Bars: 95 % bootstrap intervals over users{', means over the runs' if several else ''}"
            caption += f"; hollow: fewer than {panels.FEW} users."
        svg = self._drawn(draw, f"Line chart, a line a cell: {title}", name)
        return Illustration(title, caption + _grey(list(rows)), svg, _numbers(rows, "ndcg@10", labels, foot), missing)

    def head_against_nonhead(self) -> Illustration:
        """NDCG@10 of head targets across, of mid and tail targets up."""
        return self._scatter(
            ("NDCG@10, head targets", lambda cell: cell.mean_std(HEAD)),
            ("NDCG@10, mid and tail targets", lambda cell: cell.mean_std(NONHEAD)),
            "Head against nonhead",
            "Test NDCG@10 for popular targets (across) and for all others (up), a point a cell; a cell above and right "
            "of another is better for both, one above and left pays with the head for the tail.",
            "NDCG@10 of head and nonhead targets",
            "tradeoff",
        )

    def cost(self, decisive: str) -> Illustration:
        """The decisive test metric against training time, and a table of the runs' cost."""
        *group, measure = decisive.split("/")
        name = f"{measure.upper()}{', ' + group[0] + ' targets' if group else ''}"
        drawn = self._scatter(
            ("minutes of training", lambda cell: _cost(cell, _minutes)),
            (f"test {name}", lambda cell: cell.mean_std(decisive)),
            "Accuracy against training time",
            f"Test {name} against the minutes a run's epochs took (median epoch times their number, validation not "
            "counted); up and left is better. Times compare only between runs on the same machine, left to themselves.",
            "training time",
            "cost",
            orders=True,
        )
        rows = []
        for each in self.cells:
            row = each.entries
            for read, form in _COSTS.values():
                mean = _cost(each.cell, read)[0]
                row.append(Entry(MISSING if mean is None else form.format(mean), value=mean))
            row.append(Entry(", ".join(sorted({_machine(run.metrics or {}) for run in each.cell.finished}))))
            rows.append(row)
        return replace(drawn, numbers=Content(["#", "cell"], [*_COSTS, "on"], [rows]))

    def _scatter(
        self, across: _Side, up: _Side, title: str, caption: str, what: str, name: str, orders: bool = False
    ) -> Illustration:
        """Scatter plot of the cells that have both sides; ``what`` is what the others lack."""
        points = {each: (across[1](each.cell), up[1](each.cell)) for each in self.cells}
        drawn = [each for each in self.cells if all(mean is not None for mean, _ in points[each])]
        missing = _lacking([each for each in self.cells if each not in drawn], what)
        if not drawn:
            return Illustration(title, lacking=missing or ("Not drawn: no run has finished.",))
        if len(self.cells) == 1:
            (x, _), (y, _) = points[drawn[0]]
            words = f"Not drawn, as there is one configuration: {across[0]} {x:.4g}, {up[0]} {y:.4g}."
            return Illustration(title, lacking=(words,))

        def draw(axes: Any) -> None:
            panels.scatter(axes, [(each.look, *points[each]) for each in drawn], (across[0], up[0]), orders)

        if any(len(each.cell.finished) > 1 for each in drawn):
            caption += " Bars: standard deviation over seeds."
        svg = self._drawn(draw, f"Scatter plot, a point a cell: {up[0]} against {across[0]}", name)
        return Illustration(title, caption + _grey(drawn), svg, lacking=missing)


def _grey(cells: Sequence[StyledCell]) -> str:
    """A sentence on the cells without a colour of their own; "" where all have one."""
    grey = [each for each in cells if not each.look.coloured]
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


def _numbers(rows: _Rows, key: str, labels: Sequence[str], foot: list[list[str]]) -> Content:
    body = [
        [*each.entries, *(Entry(shown(key, row[key]), value=row[key]) for row in of_cell)]
        for each, of_cell in rows.items()
    ]
    return Content(["#", "cell"], list(labels), [[*body, *([Entry(""), *map(Entry, line)] for line in foot)]])


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
