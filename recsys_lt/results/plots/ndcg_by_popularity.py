"""NDCG against how popular the target is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys_lt.metrics.groups import HEAD, TAIL, ItemGroups
from recsys_lt.metrics.intervals import equal_bins
from recsys_lt.metrics.long_tail import K, served_users
from recsys_lt.metrics.ranking import Ranks, gains
from recsys_lt.results.plots import BLUE, GREY, ORANGE, counts, legend_above, means, save, tidy


def ndcg_by_popularity(
    ranks: Ranks,
    targets: NDArray[np.int64],
    groups: ItemGroups,
    path: Path,
    title: str,
) -> None:
    """NDCG@10 against how popular the target is, with 95 % intervals and users per bin.

    Parameters
    ----------
    ranks
        1-based rank of each user's target, 0 for a miss, [n], n at least 1.
    targets
        The targets' item ids, [n].
    groups
        Of the items, whose borders are drawn.
    path
        PNG file to write.
    title
        What was evaluated: dataset, model, loss.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    popularity = groups.popularity
    popular = popularity[targets]
    values = gains("ndcg", ranks, K)
    bins = equal_bins(popular)
    # Popularity runs over orders of magnitude, and a target never seen in training has no logarithm:
    # then everything is drawn one to the right, and the ticks still tell the true counts.
    shift = 1 if popular.min() == 0 else 0
    x = np.array([np.exp(np.log(popular[b] + shift).mean()) for b in bins])  # geometric means
    served = [served_users(values[b]) for b in bins]

    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    figure.suptitle(title, fontsize=11)
    highest = means(above, x.tolist(), served, BLUE, "mean and 95 % bootstrap interval")
    overall = float(values.mean())
    above.axhline(overall, color=ORANGE, linewidth=1.0, linestyle=":", label=f"all users: {overall:.4f}")
    above.set_xscale("log")
    above.set_ylim(bottom=0, top=max(highest, overall, 1e-3) * 1.12)
    above.set_ylabel("test NDCG@10")
    legend_above(above, served)

    borders = []
    for upper, lower in ((HEAD, HEAD + 1), (TAIL - 1, TAIL)):
        if np.any(groups.of == upper) and np.any(groups.of == lower):
            # Between the least popular item of one group and the most popular of the next.
            pair = popularity[groups.of == upper].min(), popularity[groups.of == lower].max()
            borders.append((pair[0] + pair[1]) / 2 + shift)
    span = above.get_xlim()
    for border in borders:
        if span[0] < border < span[1]:
            above.axvline(border, color=GREY, linewidth=0.9, linestyle="--")
    if len(borders) == 2:
        edges = [span[0], *sorted(np.clip(borders, *span)), span[1]]
        for name, left, right in zip(("tail", "mid", "head"), edges[:-1], edges[1:], strict=True):
            if np.log(right / left) > 0.04 * np.log(span[1] / span[0]):
                above.text(
                    np.sqrt(left * right), 0.985, name, transform=above.get_xaxis_transform(), ha="center",
                    va="top", color=GREY, fontsize=9,
                )  # fmt: skip
    above.set_xlim(span)

    counts(below, x.tolist(), [row["users"] for row in served], BLUE)
    below.set_xlabel(f"the target item's {groups.by} (log scale)")
    ticks = [digit * 10**power for power in range(8) for digit in (1, 2, 5)]
    shown = [tick for tick in [0] * shift + ticks if span[0] <= tick + shift <= span[1]]
    below.xaxis.set_major_locator(FixedLocator([tick + shift for tick in shown]))
    below.xaxis.set_major_formatter(FixedFormatter([f"{tick:,}" for tick in shown]))
    below.xaxis.set_minor_locator(NullLocator())
    for axes in (above, below):
        tidy(axes)
    figure.align_ylabels()
    save(figure, path)
