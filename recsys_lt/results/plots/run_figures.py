"""Figures that a run leaves in its folder, and the figure of a sweep's table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lt.metrics.groups import GROUPS, ItemGroups
from recsys_lt.results.cell_styles import heading, styled_cells
from recsys_lt.results.comparison import Comparison
from recsys_lt.results.plots import panels
from recsys_lt.results.plots.drawing import CELLS, GREY, INK, MUTED, Look, canvas, save_png
from recsys_lt.results.written_tables import shown

ALL_HEAD_NONHEAD = {
    "valid/ndcg@10": Look("all", INK),
    "valid/head/ndcg@10": Look("head", CELLS[0], (0, (5, 2)), "s"),
    "valid/nonhead/ndcg@10": Look("nonhead", CELLS[1], (0, (1.2, 1.4)), "D"),
}
HEAD, NONHEAD = "head/ndcg@10", "nonhead/ndcg@10"
_MEAN = Look("mean and 95 % bootstrap interval", CELLS[0])


class RunFigures:
    """Figures of one run as PNG files, titled with its dataset, model, loss, optimizer and seed.

    ``metrics`` is the content of metrics.json, ``groups`` are those of the items.
    """

    def __init__(self, metrics: Mapping[str, Any], groups: ItemGroups) -> None:
        self.title = "{dataset}: {model}, {loss}, {optimizer}, seed {seed}".format_map(metrics)
        self.test: Mapping[str, float | None] = metrics["test"]
        self.long_tail: Mapping[str, Sequence[panels.Row]] = metrics["long_tail"]
        self.groups = groups

    @contextmanager
    def _saved(self, path: Path, width: float, height: float, ratios: Sequence[float]) -> Iterator[Any]:
        """Panels below each other, drawn in the block and saved at its end."""
        with canvas(width, height, ratios) as (figure, axes):
            figure.suptitle(self.title)
            yield axes
            figure.align_ylabels()
            save_png(figure, path)

    def learning_curve(self, history: Sequence[Mapping[str, float | None]], path: Path) -> None:
        """Validation NDCG@10 (all, head and nonhead targets) and training loss over epochs, the best epoch marked.

        ``history`` is one mapping an epoch, with ``epoch`` (completed epochs) and the columns of learning_curve.csv; a
        column may be absent or None in epochs without it.
        """
        last = max((row["epoch"] or 0.0 for row in history), default=0.0)
        lines = [(look, [curve]) for column, look in ALL_HEAD_NONHEAD.items() if (curve := curve_of(history, column))]
        with self._saved(path, 6.0, 4.4, (3, 2)) as (above, below):
            panels.learning_curves(above, lines, "validation NDCG@10", last, from_zero=True)
            if lines and lines[0][0].text == "all":
                epoch, value = panels.best_epoch((above, below), lines[0][1][0])
                above.set_title(f"best: {value:.4f} at epoch {epoch:.0f} (dashed)", fontsize=8, color=GREY)
            loss = (Look("", MUTED, mark="."), [curve_of(history, "train/loss")])
            panels.learning_curves(below, [loss], "training loss", last, from_zero=False)
            below.set_xlabel("completed epochs")

    def ndcg_by_popularity(self, rows: Sequence[panels.Row], targets: NDArray[np.int64], path: Path) -> None:
        """NDCG@10 against the popularity of the target, with 95 % intervals and users.

        ``rows`` are of ``recsys_lt.metrics.long_tail.target_popularity``, ``targets`` the users' target items, [n].
        """
        with self._saved(path, 7.2, 4.6, (4, 1)) as (above, below):
            self._ndcg(above, rows)
            self._borders([above], self.groups.of[targets], [row["users"] for row in rows])
            panels.users_by_bin(below, [(_MEAN, rows)])
            labels = [panels.span(row["most"], row["least"]) for row in rows]
            panels.bins(below, labels, f"the target item's {self.groups.by}, most popular first")

    def ndcg_along_the_tail(self, path: Path) -> None:
        """NDCG@10 with 95 % intervals, exposure beside interactions, and users, of each tenth of the items."""
        rows = self.long_tail["deciles"]
        with self._saved(path, 7.2, 6.0, (4, 3, 1)) as axes:
            self._ndcg(axes[0], rows)
            panels.exposure(axes[1], [(Look("share of the lists of ten", CELLS[1], mark="s"), rows)], self.groups.by)
            names = ("ARP", "APLT", "coverage", "Gini")
            values = [f"{name} {shown(name.lower(), self.test.get(f'{name.lower()}@10'))}" for name in names]
            panels.legend_above(axes[1], title=f"lists of ten: {', '.join(values)}")
            panels.users_by_bin(axes[2], [(_MEAN, rows)])
            self._borders(axes, self.groups.of, [row["items"] for row in rows])
            labels = [f"{n}\n{panels.span(row['most'], row['least'])}" for n, row in enumerate(rows, 1)]
            parts = "tenths of the items" if len(rows) == 10 else "items"
            panels.bins(axes[2], labels, f"{parts}, most popular first (below, the items' {self.groups.by})")
            axes[2].tick_params(axis="x", labelsize=7.5, rotation=0)

    def ndcg_by_history_length(self, path: Path) -> None:
        """NDCG@10 against the number of events before the target, of all users and of those with a nonhead target."""
        rows = self.long_tail["histories"]
        nonhead = [row["nonhead"] for row in rows]
        lines = [(Look("all users", CELLS[0]), rows), (Look("mid and tail targets", CELLS[1], mark="s"), nonhead)]
        with self._saved(path, 6.4, 4.8, (4, 1)) as (above, below):
            panels.ndcg_by_bin(above, lines, intervals=True)
            panels.legend_above(above, "means and 95 % bootstrap intervals")
            panels.users_by_bin(below, lines)
            labels = [panels.span(row["shortest"], row["longest"]) for row in rows]
            panels.bins(below, labels, "events in the user's history before the target")

    def _ndcg(self, axes: Any, rows: Sequence[panels.Row]) -> None:
        """NDCG@10 of each bin, and of all users as a dotted line."""
        panels.ndcg_by_bin(axes, [(_MEAN, rows)], intervals=True)
        overall = self.test.get("ndcg@10")
        if overall is not None:
            axes.axhline(overall, color=CELLS[1].light, linewidth=1.0, linestyle=":", label=f"all users: {overall:.4f}")
        axes.set_ylim(0, 1.15 * max(axes.get_ylim()[1], overall or 0.0))  # the names of the groups stand above
        panels.legend_above(axes)

    def _borders(self, axes: Sequence[Any], groups: NDArray[np.int8], of_bins: Sequence[int]) -> None:
        """Borders of head, mid and tail in bins that are ordered by popularity, and the groups' NDCG@10 on top.

        ``groups`` is the group of each item or user that the bins count.
        """
        sizes = np.bincount(groups, minlength=len(GROUPS))
        places = np.interp(np.cumsum([0, *sizes]), np.cumsum([0, *of_bins]), 0.5 + np.arange(len(of_bins) + 1))
        for name, left, right in zip(GROUPS, places[:-1], places[1:], strict=True):
            if right - left > 0.06 * len(of_bins):
                axes[0].text(
                    (left + right) / 2, 0.985, f"{name}\n{shown('ndcg', self.test.get(f'{name}/ndcg@10'))}",
                    ha="center", va="top", transform=axes[0].get_xaxis_transform(), color=GREY, fontsize=9,
                )  # fmt: skip
        for each in axes:
            for border in places[1:-1]:
                each.axvline(border, color=GREY, linewidth=0.9, linestyle="--", zorder=1)


def curve_of(history: Sequence[Mapping[str, float | None]], column: str) -> dict[float, float]:
    """A column of a run's history by epoch, where it has a finite value."""
    points = [(row["epoch"], row.get(column)) for row in history]
    return {x: y for x, y in points if x is not None and y is not None and np.isfinite(y)}


def head_against_nonhead(compared: Comparison, path: Path) -> None:
    """NDCG@10 of head targets against that of all others: a panel a dataset, a numbered point a cell.

    Cells that did not measure both are left out.
    """
    drawn = {
        dataset: [each for each in cells if each.cell.values(HEAD) and each.cell.values(NONHEAD)]
        for dataset, cells in styled_cells(compared).items()
    }
    drawn = {dataset: cells for dataset, cells in drawn.items() if cells}
    heights = [max(3.2, 0.5 + 0.2 * len(cells)) for cells in drawn.values()]
    with canvas(9.6, sum(heights) or 1.0, heights or (1,), columns=2) as (figure, axes):
        for (dataset, cells), (left, right) in zip(drawn.items(), np.reshape(axes, (-1, 2)), strict=False):
            points = [(each.look, each.cell.mean_std(HEAD), each.cell.mean_std(NONHEAD)) for each in cells]
            panels.scatter(left, points, ("NDCG@10, head targets", "NDCG@10, mid and tail targets"))
            left.set_title(heading(dataset, cells), fontsize=9)
            for each in cells:
                name = fill(f"{each.number}  {each.name}", 60, subsequent_indent="     ")
                right.plot([], [], each.look.mark, color=each.look.colour.light, label=name)
            right.legend(loc="center left", frameon=False, fontsize=7)
        for each in np.ravel(axes)[1::2]:
            each.set_axis_off()
        save_png(figure, path)
