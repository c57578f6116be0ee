"""The figures of one run, as PNG files fit for a paper; here, what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_lt.system.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#1f5fa8", "#d1601a", "#666666"
LIGHT_BLUE, LIGHT_ORANGE = "#7fa3cf", "#e0a27c"
#: Means over fewer users are drawn hollow.
FEW = 50


def verbatim(text: str) -> str:
    """A name as matplotlib draws it letter by letter: between dollars it would read mathematics."""
    return text.replace("$", r"\$")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file."""
    # A canvas of its own: pyplot would keep every figure of a sweep, and may look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with replacing(Path(path)) as draft:
        figure.savefig(draft, format="png", dpi=200)


def tidy(axes: Any) -> None:
    """No box around the axes, and faint lines across."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)


def means(axes: Any, x: Sequence[float], served: Sequence[Mapping[str, Any]], colour: str, label: str) -> float:
    """Draw ``ndcg@10`` with its interval at each place that has users; the highest point drawn, 0 for none."""
    known = [(place, row) for place, row in zip(x, served, strict=True) if row["users"]]
    if not known:
        return 0.0
    mean, low, high = (np.array([row[key] for _, row in known]) for key in ("ndcg@10", "low", "high"))
    axes.errorbar(
        [place for place, _ in known], mean, yerr=np.abs([mean - low, high - mean]), color=colour, marker="o",
        markersize=4.5, linewidth=1.4, elinewidth=1.1, capsize=3, clip_on=False, label=label,
    )  # fmt: skip
    few = [(place, row["ndcg@10"]) for place, row in known if row["users"] < FEW]
    if few:
        axes.plot(*zip(*few, strict=True), "o", color=colour, mfc="white", markersize=4.5, clip_on=False, zorder=3)
    return float(high.max())


def legend_above(axes: Any, served: Sequence[Mapping[str, Any]] = (), title: str | None = None) -> None:
    """What is drawn, means first, above the axes; what a hollow point is, where ``served`` has one."""
    from matplotlib.lines import Line2D

    if any(0 < row["users"] < FEW for row in served):
        axes.plot([], [], "o", color=GREY, mfc="white", markersize=4.5, label=f"fewer than {FEW} users")
    handles, labels = axes.get_legend_handles_labels()  # points with intervals come last
    means_first = sorted(range(len(handles)), key=lambda n: isinstance(handles[n], Line2D))
    axes.legend(
        [handles[n] for n in means_first], [labels[n] for n in means_first], loc="lower center",
        bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=8, title=title, title_fontsize=8,
    )  # fmt: skip


def counts(axes: Any, x: Sequence[float], users: Sequence[int], colour: str) -> None:
    """Users of each place, as bars with their numbers."""
    axes.vlines(x, 0, users, color=colour, linewidth=5, alpha=0.55)
    axes.set_ylim(0, max(axes.get_ylim()[1] if axes.texts else 0, max(users) * 1.5, 1))
    for place, count in zip(x, users, strict=True):
        axes.text(place, count, f"{count:,}", ha="center", va="bottom", fontsize=6.5, color=GREY)
    axes.set_ylabel("users")
    axes.set_yticks([])
