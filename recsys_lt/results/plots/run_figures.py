"""Figures that a run leaves in its folder, and the figure of a sweep's table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from recsys_lt.metrics.groups import GROUPS, ItemGroups
from recsys_lt.results.cell_styles import StyledCell, heading, styled_cells
from recsys_lt.results.cells import Cell
from recsys_lt.results.comparison import Comparison, best_first, outstanding
from recsys_lt.results.field_terms import in_a_sentence, term
from recsys_lt.results.plots import panels
from recsys_lt.results.plots.drawing import CELLS, COLUMN, GREY, HEIGHT, INK, MUTED, PAGE, Look, blank, canvas, save
from recsys_lt.results.written_tables import shown
from recsys_lt.runs.listing import IDENTITY

ALL_HEAD_NONHEAD = {
    "valid/ndcg@10": Look("all", INK),
    "valid/head/ndcg@10": Look("head", CELLS[0], (0, (5, 2)), "s"),
    "valid/nonhead/ndcg@10": Look("mid+tail", CELLS[1], (0, (1.2, 1.4)), "D"),
}
HEAD, NONHEAD = "head/ndcg@10", "nonhead/ndcg@10"
_COLUMNS = {"": "all targets", "head/": "head", "nonhead/": "mid and tail"}
_REFERENCE, _BEST, _OTHER = Look("", CELLS[0], mark="s"), Look("", CELLS[1], mark="D"), Look("", MUTED)
_MEAN = Look("mean and 95 % bootstrap interval", CELLS[0])


class RunFigures:
    """Figures of one run, as wide as a paper's column, titled with its dataset, model, loss, optimizer and seed.

    Each is written to the ``paths`` it is given, as PNG or PDF by their names. ``metrics`` is the content of
    metrics.json, ``groups`` are those of the items.
    """

    def __init__(self, metrics: Mapping[str, Any], groups: ItemGroups) -> None:
        dataset, *names = (term(metrics[kind]) for kind in IDENTITY)
        self.title = fill(f"{dataset}: {', '.join(names)}, seed {metrics['seed']}", 50)
        self.test: Mapping[str, float | None] = metrics.get("test", {})
        self.long_tail: Mapping[str, Sequence[panels.Row]] = metrics.get("long_tail", {})
        self.groups = groups

    @contextmanager
    def _saved(self, paths: Sequence[Path], height: float, ratios: Sequence[float]) -> Iterator[Any]:
        """Panels below each other, drawn in the block and saved at its end."""
        with canvas(COLUMN, height, ratios) as (figure, axes):
            figure.suptitle(self.title)
            yield axes
            figure.align_ylabels()
            save(figure, *paths)

    def learning_curve(self, history: Sequence[Mapping[str, float | None]], *paths: Path) -> None:
        """Validation NDCG@10 (all, head and nonhead targets) and training loss over epochs, the best epoch marked.

        ``history`` is one mapping an epoch, with ``epoch`` (completed epochs) and the columns of learning_curve.csv; a
        column may be absent or None in epochs without it.
        """
        last = max((row["epoch"] or 0.0 for row in history), default=0.0)
        lines = [(look, [curve]) for column, look in ALL_HEAD_NONHEAD.items() if (curve := curve_of(history, column))]
        with self._saved(paths, 3.1, (3, 2)) as (above, below):
            panels.learning_curves(above, lines, "validation NDCG@10", last, from_zero=True)
            if lines and lines[0][0].text == "all":
                epoch, value = panels.best_epoch((above, below), lines[0][1][0])
                panels.legend_above(above, f"best: {value:.4f} at epoch {epoch:.0f} (dashed)")
            loss = (Look("", MUTED, mark="."), [curve_of(history, "train/loss")])
            panels.learning_curves(below, [loss], "training loss", last, from_zero=False)
            below.set_xlabel("completed epochs")

    def ndcg_along_the_tail(self, *paths: Path) -> None:
        """NDCG@10 with 95 % intervals, exposure beside interactions, and users, of each tenth of the items."""
        rows = self.long_tail["deciles"]
        with self._saved(paths, 4.6, (4, 3, 1)) as axes:
            panels.ndcg_by_bin(axes[0], [(_MEAN, rows)], intervals=True)
            overall = self.test.get("ndcg@10")
            if overall is not None:
                of_all = {"color": CELLS[1].light, "linestyle": ":", "label": f"all users: {overall:.4f}"}
                axes[0].axhline(overall, linewidth=0.8, **of_all)
            axes[0].set_ylim(0, 1.25 * max(axes[0].get_ylim()[1], overall or 0.0))  # groups' names stand above
            panels.legend_above(axes[0])
            panels.exposure(axes[1], [(Look("share of the lists of ten", CELLS[1], mark="s"), rows)], self.groups.by)
            names = ("ARP", "APLT", "coverage", "Gini")
            values = [f"{name} {shown(name.lower(), self.test.get(f'{name.lower()}@10'))}" for name in names]
            panels.legend_above(axes[1], title=f"lists of ten: {', '.join(values)}")
            panels.users_by_bin(axes[2], [(_MEAN, rows)])
            self._borders(axes, [row["items"] for row in rows])
            labels = [panels.span(row["most"], row["least"]) for row in rows]
            parts = "tenths of the items" if len(rows) == 10 else "items"
            panels.bins(axes[2], labels, f"{parts} by {self.groups.by}, most popular on the left")

    def ndcg_by_history_length(self, *paths: Path) -> None:
        """NDCG@10 against the number of events before the target, of all users and of those with a nonhead target."""
        rows = self.long_tail["histories"]
        nonhead = [row["nonhead"] for row in rows]
        lines = [(Look("all users", CELLS[0]), rows), (Look("mid and tail targets", CELLS[1], mark="s"), nonhead)]
        with self._saved(paths, 3.1, (4, 1)) as (above, below):
            panels.ndcg_by_bin(above, lines, intervals=True)
            panels.legend_above(above, "means and 95 % bootstrap intervals")
            panels.users_by_bin(below, lines)
            labels = [panels.span(row["shortest"], row["longest"]) for row in rows]
            panels.bins(below, labels, "events in the user's history before the target")

    def _borders(self, axes: Sequence[Any], of_bins: Sequence[int]) -> None:
        """Borders of head, mid and tail in bins of so many items, and the groups' NDCG@10 on top."""
        sizes = np.bincount(self.groups.of, minlength=len(GROUPS))
        places = np.interp(np.cumsum([0, *sizes]), np.cumsum([0, *of_bins]), 0.5 + np.arange(len(of_bins) + 1))
        for name, left, right in zip(GROUPS, places[:-1], places[1:], strict=True):
            if right - left > 0.06 * len(of_bins):
                axes[0].text(
                    (left + right) / 2, 0.985, f"{name}\n{shown('ndcg', self.test.get(f'{name}/ndcg@10'))}",
                    ha="center", va="top", transform=axes[0].get_xaxis_transform(), color=GREY, fontsize=7,
                )  # fmt: skip
        for each in axes:
            for border in places[1:-1]:
                each.axvline(border, color=GREY, linewidth=0.7, linestyle="--", zorder=1)


def curve_of(history: Sequence[Mapping[str, float | None]], column: str) -> dict[float, float]:
    """A column of a run's history by epoch, where it has a finite value."""
    points = [(row["epoch"], row.get(column)) for row in history]
    return {x: y for x, y in points if x is not None and y is not None and np.isfinite(y)}


def by_group(compared: Comparison, path: Path) -> None:
    """A table's first ranking metric of all, of head, and of mid and tail targets: a row a cell, the best on top.

    Only the reference and the best of each column have a colour. Written as PNG, and as PDF beside it.
    """
    from matplotlib.lines import Line2D

    gain = "{}@{}".format(*compared.gain)
    drawn = {
        dataset: sorted((e for e in cells if e.cell.values(gain)), key=lambda e: best_first(e.cell, gain))
        for dataset, cells in styled_cells(compared).items()
    }
    names = {dataset: [_in_lines(each.name) for each in cells] for dataset, cells in drawn.items() if cells}
    heights = [0.75 + 0.135 * sum(1 + name.count("\n") for name in of_one) for of_one in names.values()]
    with blank(PAGE, 0.3 + sum(heights)) as figure:
        parts = figure.subfigures(max(len(names), 1), 1, height_ratios=heights or None, squeeze=False)[:, 0]
        for part, dataset in zip(parts, names, strict=False):
            part.suptitle(heading(dataset, drawn[dataset]))
            _columns(part, [e.cell for e in drawn[dataset]], names[dataset], gain, compared.references[dataset])
        looks = {f"reference{compared.why_reference} (dashed)": _REFERENCE, "best of its column": _BEST}
        handles = [
            Line2D([], [], color=look.colour.light, marker=look.mark, linestyle="", label=name)
            for name, look in looks.items()
        ]
        if any(len(each.cell.finished) > 1 for cells in drawn.values() for each in cells):
            handles.append(Line2D([], [], color=MUTED.light, linewidth=0.8, label="standard deviation over seeds"))
        parts[-1].legend(handles=handles, loc="outside lower center", ncols=3)
        save(figure, path, path.with_suffix(".pdf"))


def trade_off(compared: Comparison, path: Path) -> None:
    """A table's first ranking metric of mid and tail targets against that of all and of head targets.

    A point is a cell: a mean over seeds, with standard deviations. A line joins the cells that no other cell exceeds in
    both directions. A row of panels for each dataset. Written as PNG, and as PDF beside it.
    """
    from matplotlib.lines import Line2D

    gain = "{}@{}".format(*compared.gain)
    drawn = {dataset: [e for e in cells if e.cell.values(gain)] for dataset, cells in styled_cells(compared).items()}
    drawn = {dataset: cells for dataset, cells in drawn.items() if cells}
    names = {dataset: [f"{e.number} {_in_lines(e.name)}" for e in cells] for dataset, cells in drawn.items()}
    lines = {dataset: sum(1 + name.count("\n") for name in of_one) for dataset, of_one in names.items()}
    heights = [2.9 + 0.12 * (math.ceil(n / 2) + 1) for n in lines.values()]
    with blank(PAGE, sum(heights) or HEIGHT) as figure:
        parts = figure.subfigures(max(len(drawn), 1), 1, height_ratios=heights or None, squeeze=False)[:, 0]
        for part, (dataset, cells) in zip(parts, drawn.items(), strict=False):
            part.suptitle(heading(dataset, cells))
            for axes, group in zip(part.subplots(1, 2, sharey=True), ("", "head/"), strict=True):
                _points(axes, cells, group + gain, f"nonhead/{gain}")
                axes.set_xlabel(f"test {in_a_sentence(gain)}, {_COLUMNS[group]}")
            part.axes[0].set_ylabel(f"test {in_a_sentence(gain)}, {_COLUMNS['nonhead/']}")
            handles = [
                Line2D([], [], label=name, color=e.look.colour.light, marker=e.look.mark, linestyle="")
                for e, name in zip(cells, names[dataset], strict=True)
            ]
            part.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=6.5)
        save(figure, path, path.with_suffix(".pdf"))


def _points(axes: Any, cells: Sequence[StyledCell], x: str, y: str) -> None:
    """Cells as points of two metrics, numbered, and the front of those that no other cell exceeds in both."""
    from matplotlib.ticker import MaxNLocator

    places = [(each, each.cell.mean_std(x), each.cell.mean_std(y)) for each in cells]
    at = []
    for each, (right, spread), (up, height) in places:
        if right is None or up is None:
            continue
        colour = each.look.colour.light
        axes.errorbar(right, up, xerr=spread, yerr=height, fmt=each.look.mark, color=colour, elinewidth=0.6, zorder=3)
        axes.annotate(str(each.number), (right, up), (3, 3), textcoords="offset points", fontsize=6.5, zorder=4)
        at.append((right, up))
    front = sorted(one for one in at if not any(o != one and o[0] >= one[0] and o[1] >= one[1] for o in at))
    axes.plot(*zip(*front, strict=True) if front else ([], []), color=GREY, linewidth=0.8, linestyle="--", zorder=2)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))


def _in_lines(name: str) -> str:
    """A cell's name in lines that end between its parts."""
    lines = fill(", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in name.split(", ")), 46)
    return lines.replace("\N{NO-BREAK SPACE}", " ")


def _columns(part: Any, cells: Sequence[Cell], names: Sequence[str], gain: str, reference: Cell | None) -> None:
    """A panel for each group of targets: mean and standard deviation over seeds, a row a cell."""
    from matplotlib.ticker import MaxNLocator

    lines = np.array([1 + name.count("\n") for name in names])
    rows = np.cumsum(lines) - lines / 2
    for axes, (group, words) in zip(part.subplots(1, len(_COLUMNS), sharey=True), _COLUMNS.items(), strict=True):
        best = outstanding(cells, group + gain)
        for row, cell in zip(rows, cells, strict=True):
            mean, std = cell.mean_std(group + gain)
            if mean is None:
                continue
            look = _BEST if shown(gain, mean) == best else _OTHER
            if cell is reference:
                look = look._replace(colour=_REFERENCE.colour, mark=look.mark if look is _BEST else _REFERENCE.mark)
                axes.axvline(mean, color=look.colour.light, linewidth=0.7, linestyle="--", zorder=1)
            axes.errorbar(mean, row, xerr=std, fmt=look.mark, color=look.colour.light, elinewidth=0.8, zorder=3)
        axes.set_yticks(rows, names, fontsize=6.5)
        axes.set_ylim(lines.sum() + 0.3, -0.3)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=3))
        axes.set_xlabel(f"test {in_a_sentence(gain)}, {words}")
