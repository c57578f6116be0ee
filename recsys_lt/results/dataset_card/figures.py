"""Pictures of a dataset card, drawn from its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from recsys_lt.metrics.groups import GROUPS
from recsys_lt.results.plots import panels
from recsys_lt.results.plots.drawing import CELLS, GREY, LINE, MUTED, Look, canvas, inline_svg

Numbers = Mapping[str, Any]


def popularity_curve(popularity: Numbers) -> Markup:
    """Training interactions of the items, most popular first, with the borders of head, mid and tail."""
    from matplotlib.ticker import FuncFormatter

    points = [(point["place"], point["interactions"]) for point in popularity["curve"] if point["interactions"]]
    with canvas() as (figure, axes):
        axes.plot(*zip(*points, strict=True), color=CELLS[0].light)
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel("items, most popular first")
        axes.set_ylabel("training interactions")
        end = 0
        for name in GROUPS:
            size = popularity["groups"][name]["items"]
            if size:
                axes.text(
                    end + size / 2, 1.02, name, ha="center", va="bottom", transform=axes.get_xaxis_transform(),
                    color=GREY, fontsize=7,
                )  # fmt: skip
                if end:
                    axes.axvline(end, color=GREY, linewidth=0.7, linestyle="--", zorder=1)
                end += size
        axes.set_xlim(0, end)
        return inline_svg(figure, "Training interactions of the items, most popular first", "curve-")


def tenths(popularity: Numbers) -> Markup:
    """Shares of the training interactions and of the test targets in each tenth of the items."""
    rows = [{"interactions": part["interactions"], "exposure": part["targets"]} for part in popularity["tenths"]]
    with canvas() as (figure, axes):
        panels.exposure(axes, [(Look("share of test targets", CELLS[1], mark="s"), rows)], "training interactions")
        panels.legend_above(axes)
        labels = [panels.span(part["most"], part["least"]) for part in popularity["tenths"]]
        panels.bins(axes, labels, "training interactions of the items in each tenth of the catalogue")
        return inline_svg(figure, "Shares of training interactions and test targets by tenths of the items", "tenths-")


def history_lengths(histories: Numbers) -> Markup:
    """Users by the number of their events."""
    rows = histories["bins"]
    with canvas() as (figure, axes):
        drawn = axes.bar(
            range(1, len(rows) + 1), [row["users"] for row in rows], 0.75, color=CELLS[0].light, alpha=0.75
        )
        axes.bar_label(drawn, [f"{row['users']:,}" for row in rows], padding=1, fontsize=6, color=MUTED.light)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_ylabel("users")
        axes.margins(y=0.1)
        panels.bins(axes, [panels.span(row["shortest"], row["longest"]) for row in rows], "events of a user")
        return inline_svg(figure, "Users by the number of their events", "lengths-")


def bars(shares: Sequence[tuple[str, float]], axis: str, prefix: str) -> Markup:
    """Shares of the test users, a bar each, the first on top."""
    with canvas(height=0.6 + 0.28 * len(shares)) as (figure, axes):
        names, values = zip(*shares, strict=True)
        drawn = axes.barh(range(len(names)), [100 * value for value in values], 0.62, color=CELLS[0].light, alpha=0.75)
        axes.bar_label(drawn, [f"{100 * value:.1f}" for value in values], padding=2, fontsize=7, color=MUTED.light)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color=LINE.light)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.15 * max(100 * max(values), 1))
        axes.set_xlabel(axis)
        return inline_svg(figure, axis, prefix)
