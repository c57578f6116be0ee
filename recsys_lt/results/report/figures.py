"""Figures of the report: each cell of a dataset is a line or a point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, NamedTuple

from markupsafe import Markup

from recsys_lt.results.cell_styles import StyledCell, numbers
from recsys_lt.results.cells import Cell, mean_and_spread
from recsys_lt.results.field_terms import in_a_sentence
from recsys_lt.results.plots import panels
from recsys_lt.results.plots.drawing import Look, canvas, inline_svg
from recsys_lt.results.plots.run_figures import ALL_HEAD_NONHEAD, HEAD, NONHEAD, curve_of
from recsys_lt.results.written_tables import MISSING, Content, Entry, shown
from recsys_lt.runs.reading import CURVE, read_curve

#: With more cells than this their intervals would cover each other.
_WITH_INTERVALS = 3
_KEYS = ("ndcg@10", "low", "high", "users", "exposure", "interactions")  # of a bin
#: What an axis of a scatter plot shows, and its value in each run of a cell.
_Side = tuple[str, Callable[[Cell], Sequence[float]]]


@dataclass(frozen=True)
class Illustration:
    """One figure of the report. Its caption is in the page's template, by its name.

    ``drawn`` are the cells in it, none if nothing could be drawn. ``numbers`` is what was drawn, as a table.
    ``lacking`` has a line for each thing that is missing, with the reason. ``extra`` is True for a figure with
    intervals or with the best epoch, which only some figures of this name show.
    """

    name: str
    title: str
    drawn: tuple[StyledCell, ...] = ()
    svg: Markup | None = None
    numbers: Content | None = None
    lacking: tuple[str, ...] = ()
    extra: bool = False


@cache
def swatch(look: Look) -> Markup:
    """A piece of a cell's line with its mark, for keys and tables."""
    with canvas(0.42, 0.18) as (figure, axes):
        axes.set_axis_off()
        axes.plot([0, 2], [0, 0], color=look.colour.light, linestyle=look.dash)
        axes.plot([1], [0], look.mark, color=look.colour.light, markersize=6)
        axes.set_xlim(-0.1, 2.1)
        return inline_svg(figure, "", "swatch-", "swatch")


class _Bins(NamedTuple):
    """Bins of a horizontal axis: their labels, the label of the axis, and rows for the foot of the table."""

    labels: Sequence[str]
    axis: str
    foot: Sequence[Sequence[str]]


class Figures:
    """Figures of the cells of one dataset; ``prefix`` keeps the ids of their drawings apart from those of others."""

    def __init__(self, cells: Sequence[StyledCell], prefix: str) -> None:
        self.cells = [each for each in cells if each.cell.finished]
        self.prefix = prefix
        self._histories = {each: [read_curve(run.folder / CURVE) for run in each.cell.finished] for each in self.cells}
        self._last = max((row["epoch"] for runs in self._histories.values() for run in runs for row in run), default=0)

    def _figure(
        self, name: str, title: str, values: Mapping[StyledCell, Any], what: str,
        draw: Callable[[Any, list[tuple[Look, Any]]], None], numbers: Content | None = None,
        notes: Sequence[str] = (), extra: bool = False,
    ) -> Illustration:  # fmt: skip
        """A figure of the cells that have a value; ``what`` is what the runs of the others do not hold."""
        drawn = {each: value for each, value in values.items() if value}
        if not drawn:
            why = f"no run holds {what}" if self.cells else "no run has finished"
            return Illustration(name, title, lacking=(f"Not drawn: {why}.",))
        with canvas() as (figure, axes):
            draw(axes, [(each.look, value) for each, value in drawn.items()])
            svg = inline_svg(figure, f"Chart, a line or a point a cell: {title}", f"{self.prefix}{name}-")
        lacking = (*notes, *_lacking([each for each in values if each not in drawn], what))
        return Illustration(name, title, tuple(drawn), svg, numbers, lacking, extra)

    def learning(self) -> list[Illustration]:
        """Validation NDCG@10 over epochs, of all and of nonhead targets, and the training loss where it compares."""
        if len(self.cells) == 1:
            figures = [self._of_groups(self.cells[0])]
        else:
            figures = [self._over_epochs("learning", "Validation NDCG@10", "valid/ndcg@10")]
            title, column = "Validation NDCG@10, mid and tail targets", "valid/nonhead/ndcg@10"
            if any(self._curves(each, column) for each in self.cells):
                figures.append(self._over_epochs("learning-nonhead", title, column))
        if len({each.cell.identity[2] for each in self.cells}) > 1:
            words = "Not drawn: values of different losses do not compare."
            return [*figures, Illustration("loss", "Training loss", lacking=(words,))]
        return [*figures, self._over_epochs("loss", "Training loss", "train/loss")]

    def _curves(self, styled: StyledCell, column: str) -> list[panels.Curve]:
        """A column of each run's curve; runs without it are left out."""
        return [curve for run in self._histories[styled] if (curve := curve_of(run, column))]

    def _of_groups(self, styled: StyledCell) -> Illustration:
        """Validation NDCG@10 of a single cell: all, head and nonhead targets."""
        curves = {replace(styled, look=look): self._curves(styled, key) for key, look in ALL_HEAD_NONHEAD.items()}
        known = {each: runs for each, runs in curves.items() if runs and self._curves(styled, "valid/ndcg@10")}
        alone = len(styled.cell.finished) == 1
        return self._over_epochs("learning-groups", "Validation NDCG@10", "valid/ndcg@10", known, alone)

    def _over_epochs(
        self, name: str, title: str, column: str, lines: Mapping[StyledCell, list[panels.Curve]] | None = None,
        mark_best: bool = False,
    ) -> Illustration:  # fmt: skip
        """A column of the runs' curves: of each cell, or of each of these ``lines``."""

        def draw(axes: Any, drawn: list[tuple[Look, list[panels.Curve]]]) -> None:
            label = "training loss" if column == "train/loss" else "validation NDCG@10"
            panels.learning_curves(axes, drawn, label, self._last, column != "train/loss")
            axes.set_xlabel("completed epochs")
            if len(drawn) > 1:
                panels.legend_above(axes)
            if mark_best:
                panels.best_epoch([axes], drawn[0][1][0])

        curves = {each: self._curves(each, column) for each in self.cells} if lines is None else lines
        return self._figure(name, title, curves, f"{CURVE} with {column}", draw, extra=mark_best)

    def by_popularity(self) -> list[Illustration]:
        """NDCG@10 by popularity of the target, and the share of the lists that each tenth of the items gets."""
        rows = {each: _mean_rows(each.cell, "deciles", ("most", "least")) for each in self.cells}
        first = next((of_cell for of_cell in rows.values() if of_cell), [])
        foot = [
            ["training interactions of its items", *(row["label"] for row in first)],
            ["users whose target is in it", *(shown("users", row["users"]) for row in first)],
        ]
        labels = [f"{place}" for place in range(1, len(first) + 1)]
        bins = _Bins(labels, "tenths of the items, most popular on the left", foot)
        intervals = sum(map(bool, rows.values())) <= _WITH_INTERVALS
        title, what = "NDCG@10 by popularity of the target", "long_tail of metrics.json"
        panel = partial(panels.ndcg_by_bin, intervals=intervals)
        shares = partial(panels.exposure, of="training interactions")
        return [
            self._of_bins("popularity", title, rows, "ndcg@10", what, bins, panel, (), intervals),
            self._of_bins("exposure", "Exposure", rows, "exposure", what, bins, shares, ()),
        ]

    def by_history(self) -> Illustration:
        """Test NDCG@10 against the number of events before the target; users fall into bins of about the same size."""
        rows = {each: _mean_rows(each.cell, "histories", ("shortest", "longest")) for each in self.cells}
        edges = {each: [(row["label"], row["users"]) for row in of_cell] for each, of_cell in rows.items()}
        first = next((of_cell for of_cell in edges.values() if of_cell), [])
        # A run on some of the users has other bins than the rest.
        other = [each for each in self.cells if edges[each] not in ([], first)]
        alike = {each: of_cell for each, of_cell in rows.items() if each not in other}
        foot = [["users", *(shown("users", users) for _, users in first)]]
        bins = _Bins([label for label, _ in first], "events in the user's history before the target", foot)
        notes = _lacking(other, "NDCG by the same lengths of history")
        title, what = "NDCG@10 by length of the history", "NDCG by history in metrics.json"
        panel = partial(panels.ndcg_by_bin, intervals=False)
        return self._of_bins("history", title, alike, "ndcg@10", what, bins, panel, notes)

    def _of_bins(
        self, name: str, title: str, rows: Mapping[StyledCell, list[panels.Row]], key: str, what: str, bins: _Bins,
        panel: Callable[[Any, list[tuple[Look, Any]]], None], notes: Sequence[str], extra: bool = False,
    ) -> Illustration:  # fmt: skip
        """A figure of the ``key`` of each bin, drawn by ``panel``."""

        def draw(axes: Any, drawn: list[tuple[Look, Any]]) -> None:
            panel(axes, drawn)
            panels.bins(axes, bins.labels, bins.axis)

        return self._figure(name, title, rows, what, draw, _numbers(rows, key, bins), notes, extra)

    def head_against_nonhead(self) -> Illustration:
        """NDCG@10 of head targets across, of mid and tail targets up."""
        across: _Side = ("NDCG@10, head targets", lambda cell: cell.values(HEAD))
        up: _Side = ("NDCG@10, mid and tail targets", lambda cell: cell.values(NONHEAD))
        return self._scatter("tradeoff", "Head against nonhead", across, up, "NDCG@10 of head and nonhead targets")

    def cost(self, decisive: str) -> Illustration:
        """The decisive test metric against training time, and a table of the runs' cost."""
        up: _Side = (f"test {in_a_sentence(decisive)}", lambda cell: cell.values(decisive))
        title = "Accuracy against training time"
        drawn = self._scatter("cost", title, ("minutes of training", _minutes), up, "training time", orders=True)
        rows = []
        for each in self.cells:
            row = each.entries
            for read, form in _COSTS.values():
                mean = mean_and_spread(read(each.cell))[0]
                row.append(Entry(MISSING if mean is None else form.format(mean), value=mean))
            row.append(Entry(", ".join(sorted({_machine(run.metrics or {}) for run in each.cell.finished}))))
            rows.append(row)
        return replace(drawn, numbers=Content(["#", "cell"], [*_COSTS, "on"], [rows]))

    def _scatter(
        self, name: str, title: str, across: _Side, up: _Side, what: str, orders: bool = False
    ) -> Illustration:
        """Scatter plot of the cells that have both sides; ``what`` is what the others lack."""
        sides = {each: (across[1](each.cell), up[1](each.cell)) for each in self.cells}
        points = {each: (mean_and_spread(x), mean_and_spread(y)) if x and y else None for each, (x, y) in sides.items()}
        if len(points) == 1 and (point := next(iter(points.values()))):
            (x, _), (y, _) = point
            words = f"Not drawn, as there is one configuration: {across[0]} {x:.4g}, {up[0]} {y:.4g}."
            return Illustration(name, title, lacking=(words,))

        def draw(axes: Any, drawn: list[tuple[Look, tuple[panels.Point, panels.Point]]]) -> None:
            panels.scatter(axes, [(look, *point) for look, point in drawn], (across[0], up[0]), orders)

        return self._figure(name, title, points, what, draw)


def _lacking(cells: Sequence[StyledCell], what: str) -> tuple[str, ...]:
    """One line that says which cells' runs hold no ``what``; none where there are no such cells."""
    if not cells:
        return ()
    name = f" ({cells[0].name})" if len(cells) == 1 else ""
    return (f"Not drawn, as the runs hold no {what}: {numbers(cells)}{name}.",)


def _mean_rows(cell: Cell, name: str, ends: tuple[str, str]) -> list[panels.Row]:
    """Bins of a cell, means over its runs; empty unless every run has them, and the same ones."""
    tables = [(run.metrics or {}).get("long_tail", {}).get(name) or [] for run in cell.finished]
    labels = [[panels.span(row[ends[0]], row[ends[1]]) for row in table] for table in tables]
    if any(each != labels[0] for each in labels):
        return []
    return [
        {"label": label} | {key: _mean([row.get(key) for row in rows]) for key in _KEYS}
        for label, *rows in zip(labels[0], *tables, strict=True)
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return mean_and_spread(known)[0] if len(known) == len(values) else None


def _numbers(rows: Mapping[StyledCell, Sequence[panels.Row]], key: str, bins: _Bins) -> Content:
    body = [
        [*each.entries, *(Entry(shown(key, row[key]), value=row[key]) for row in of_cell)]
        for each, of_cell in rows.items()
        if of_cell
    ]
    return Content(["#", "cell"], list(bins.labels), [[*body, *([Entry(""), *map(Entry, line)] for line in bins.foot)]])


def _minutes(cell: Cell) -> list[float]:
    times = zip(cell.numbers("train", "seconds_per_epoch"), cell.numbers("epochs"), strict=False)
    return [seconds * epochs / 60 for seconds, epochs in times]


_COSTS: dict[str, tuple[Callable[[Cell], Sequence[float]], str]] = {
    "minutes\nof training": (_minutes, "{:,.1f}"),
    "seconds\nan epoch": (lambda cell: cell.numbers("train", "seconds_per_epoch"), "{:,.2f}"),
    "epochs": (lambda cell: cell.numbers("epochs"), "{:,.0f}"),
    "best\nepoch": (lambda cell: cell.numbers("best_epoch"), "{:,.0f}"),
    "seconds\nto rank": (lambda cell: cell.numbers("train", "eval_seconds"), "{:,.2f}"),
    "peak\nMB": (lambda cell: cell.numbers("train", "peak_rss_mb"), "{:,.0f}"),
    "parameters": (lambda cell: cell.numbers("train", "parameters"), "{:,.0f}"),
    "trained": (lambda cell: cell.numbers("train", "trained_parameters"), "{:,.0f}"),
}


def _machine(metrics: dict[str, Any]) -> str:
    train = metrics.get("train", {})
    threads = train.get("threads")
    return str(train.get("device", MISSING)) + (f", {threads} threads" if threads and threads > 1 else "")
