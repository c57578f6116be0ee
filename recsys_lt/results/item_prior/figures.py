"""Pictures of a language model's prior of the items, drawn from the page's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from recsys_lt.results.plots import panels
from recsys_lt.results.plots.drawing import CELLS, HEIGHT, PAGE, Look, canvas, inline_svg, save

Numbers = Mapping[str, Any]

_MARKS = "os^Dv*Ph"


def popularity_and_prior(probe: Numbers, axis: str, prefix: str) -> Markup:
    """The items by popularity and by a prior: larger points for more items, and the median along popularity."""
    with canvas() as (figure, axes):
        _cloud(axes, probe, axis)
        panels.legend_above(axes)
        return inline_svg(figure, f"Items by training interactions and by {axis}", prefix)


def save_clouds(probes: Mapping[str, Numbers], path: Path) -> None:
    """The same of both probes, side by side, as PNG and PDF."""
    with canvas(PAGE, HEIGHT, columns=len(probes)) as (figure, axes):
        for each, (name, probe) in zip(axes, probes.items(), strict=True):
            _cloud(each, probe, f"{name} [nats a token]")
            panels.legend_above(each)
        save(figure, path.with_suffix(".png"), path.with_suffix(".pdf"))


def _cloud(axes: Any, probe: Numbers, axis: str) -> None:
    from matplotlib.ticker import FuncFormatter

    cloud, curve = probe["cloud"], probe["curve"]
    if cloud:
        sizes = np.array([point["items"] for point in cloud])
        places = ([point[key] for point in cloud] for key in ("interactions", "prior"))
        axes.scatter(
            *places, 40 * sizes / sizes.max() + 1, color=CELLS[0].light, alpha=0.35, linewidths=0, label="items",
        )  # fmt: skip
    middles = [point["middle"] for point in curve]
    axes.plot(
        middles, [point["median"] for point in curve], color=CELLS[1].light, marker="s",
        label="median, ten parts of the items",
    )  # fmt: skip
    for edge in ("low", "high"):
        axes.plot(middles, [point[edge] for point in curve], color=CELLS[1].light, linewidth=0.6, linestyle="--")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("training interactions of the item")
    axes.set_ylabel(axis)


def by_cell(labels: Sequence[str], cells: Sequence[Numbers]) -> Markup:
    """Test NDCG@10 in the four cells of prior and popularity, a line for each cell of the runs (at most eight)."""
    with canvas(PAGE) as (figure, axes):
        lines = [
            (Look(label, color, "", mark), cell["2x2"])
            for label, cell, color, mark in zip(labels, cells, CELLS, _MARKS, strict=False)
        ]
        panels.ndcg_by_bin(axes, lines, intervals=True)
        panels.legend_above(axes)
        names = [f"prior {one['prior']}, data {one['data']}" for one in cells[0]["2x2"]]
        panels.bins(axes, names, "groups of the target, with 95 % intervals over users")
        return inline_svg(figure, "Test NDCG@10 by prior and popularity of the target", "matrix-")
