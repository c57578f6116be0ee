"""NDCG, exposure and users along the catalogue, from the most popular tenth of the items to the least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recsys_lt.metrics.groups import GROUPS, ItemGroups
from recsys_lt.results.numbers import shown
from recsys_lt.results.plots import BLUE, GREY, ORANGE, counts, legend_above, means, save, tidy

_LIGHT = "#b9b9b9"


def ndcg_along_the_tail(
    deciles: Sequence[Mapping[str, Any]], groups: ItemGroups, test: Mapping[str, float | None], path: Path, title: str
) -> None:
    """NDCG@10 with 95 % intervals, share of lists against share of interactions, and users of each part of the items.

    Parameters
    ----------
    deciles
        As ``recsys_lt.metrics.long_tail.deciles`` gives them.
    groups
        Of the items, whose borders are drawn.
    test
        Test metrics: NDCG@10 of all users and by group, and what is said of the lists of ten, are written in.
    path
        PNG file to write.
    title
        What was evaluated: dataset, model, loss.
    """
    from matplotlib.figure import Figure

    x, overall = np.arange(1, len(deciles) + 1), test.get("ndcg@10")
    figure = Figure(figsize=(7.2, 6.0), layout="constrained")
    above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=[4, 3, 1])
    figure.suptitle(title, fontsize=11)

    label = "mean and 95 % bootstrap interval"
    highest = means(above, x.tolist(), deciles, BLUE, label)
    if overall is not None:
        above.axhline(overall, color=ORANGE, linewidth=1.0, linestyle=":", label=f"all users: {overall:.4f}")
    above.set_ylim(0, max(highest, overall or 0, 1e-3) * 1.22)
    above.set_ylabel("test NDCG@10")
    legend_above(above, deciles)

    shares = {"exposure": ("of the lists of ten", ORANGE), "interactions": (f"of {groups.by}", _LIGHT)}
    for (key, (words, colour)), left in zip(shares.items(), (-0.2, 0.2), strict=True):
        heights = [100 * (row[key] or 0.0) for row in deciles]
        middle.bar(x + left, heights, 0.36, color=colour, label=words)
        for place, height, row in zip(x + left, heights, deciles, strict=True):
            middle.text(place, height, _percent(row[key]), ha="center", va="bottom", fontsize=6.5, color=GREY)
    middle.set_ylabel("share [%]")
    named = {"ARP": "arp", "APLT": "aplt", "coverage": "coverage", "Gini": "gini"}
    said = [f"{label} {shown(key, test.get(f'{key}@10'))}" for label, key in named.items()]
    middle.set_title(f"lists of ten: {', '.join(said)}", fontsize=8, color=GREY)
    middle.margins(y=0.12)
    middle.legend(loc="upper right", framealpha=1, edgecolor="none", borderaxespad=0, fontsize=8)

    counts(below, x.tolist(), [row["users"] for row in deciles], BLUE)
    parts = "tenths of the items" if len(deciles) == 10 else "items"
    below.set_xlabel(f"{parts}, most popular first\n(under each number, its items' {groups.by})", fontsize=9)
    below.set_xticks(x, [f"{n}\n{_range(row['least'], row['most'])}" for n, row in zip(x, deciles, strict=True)])
    below.tick_params(axis="x", labelsize=7.5)
    below.set_xlim(0.5, len(deciles) + 0.5)

    # In this order head, mid and tail lie side by side, wherever their borders are.
    sizes = np.bincount(groups.of, minlength=len(GROUPS)) / len(groups.of) * len(deciles)
    ends = 0.5 + np.cumsum(sizes)
    for name, size, end in zip(GROUPS, sizes, ends, strict=True):
        if size > 0.6:
            own = shown("ndcg", test.get(f"{name}/ndcg@10"))
            above.text(
                end - size / 2, 0.985, f"{name}\n{own}", transform=above.get_xaxis_transform(), ha="center", va="top",
                color=GREY, fontsize=9,
            )  # fmt: skip
    for axes in (above, middle, below):
        tidy(axes)
        for end in ends[:-1]:
            axes.axvline(end, color=GREY, linewidth=0.9, linestyle="--", zorder=1)
    figure.align_ylabels()
    save(figure, path)


def _percent(share: float | None) -> str:
    if not share:
        return "-" if share is None else "0"
    percent = 100 * share
    return "<0.1" if percent < 0.05 else f"{percent:.1f}" if percent < 9.95 else f"{percent:.0f}"


def _range(least: int, most: int) -> str:
    if least == most:
        return f"{most:,}"
    text = f"{most:,}-{least:,}"
    return text if len(text) < 10 else f"{most:,}-\n{least:,}"
