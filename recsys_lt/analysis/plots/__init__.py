"""The figures of one run, as PNG files fit for a paper; here, what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_lt.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#1f5fa8", "#d1601a", "#666666"
LIGHT_BLUE, LIGHT_ORANGE = "#7fa3cf", "#e0a27c"
#: Means over fewer users are drawn hollow.
FEW = 50


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


def means(
    axes: Any, x: Sequence[float], served: Sequence[Mapping[str, Any]], colour: str, label: str, marker: str = "o"
) -> float:
    """Draw ``ndcg@10`` with its interval at each place that has users; the highest point drawn, 0 for none."""
    known = [(place, row) for place, row in zip(x, served, strict=True) if row["users"]]
    if not known:
        return 0.0
    places = [place for place, _ in known]
    mean, low, high = ([row[key] for _, row in known] for key in ("ndcg@10", "low", "high"))
    # A resampled interval may leave out the mean by a rounding error.
    spread = [
        [max(m - a, 0) for m, a in zip(mean, low, strict=True)],
        [max(b - m, 0) for m, b in zip(mean, high, strict=True)],
    ]
    axes.errorbar(
        places, mean, yerr=spread, color=colour, linewidth=1.4, elinewidth=1.1, capsize=3, label=label, zorder=2
    )
    for least, most, face in ((1, FEW, "white"), (FEW, None, colour)):
        some = [
            (p, row["ndcg@10"]) for p, row in known if row["users"] >= least and (most is None or row["users"] < most)
        ]
        if some:
            axes.plot(*zip(*some, strict=True), marker, color=colour, markerfacecolor=face, markersize=4.5, zorder=3)
    return float(max(high))


def hollow_note(axes: Any, served: Sequence[Mapping[str, Any]]) -> None:
    """Say in the legend what a hollow point is, where there is one."""
    if any(0 < row["users"] < FEW for row in served):
        axes.plot([], [], "o", color=GREY, markerfacecolor="white", markersize=4.5, label=f"fewer than {FEW} users")


def counts(axes: Any, x: Sequence[float], users: Sequence[int], colour: str) -> None:
    """Users of each place, as bars with their numbers."""
    axes.vlines(x, 0, users, color=colour, linewidth=5, alpha=0.55)
    axes.set_ylim(0, max(axes.get_ylim()[1] if axes.texts else 0, max(users) * 1.5, 1))
    for place, count in zip(x, users, strict=True):
        axes.text(place, count, f"{count:,}", ha="center", va="bottom", fontsize=6.5, color=GREY)
    axes.set_ylabel("users")
    axes.set_yticks([])
