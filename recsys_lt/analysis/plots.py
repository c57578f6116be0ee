"""The figures of one run, as PNG files fit for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_lt.atomic import replacing
from recsys_lt.metrics.groups import HEAD, SHARES, TAIL, popularity_groups
from recsys_lt.metrics.ranking import Ranks, gains

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#1f5fa8", "#d1601a", "#666666"
RESAMPLES = 1000


def _save(figure: Figure, path: Path) -> None:
    # A canvas of its own: pyplot would keep every figure of a sweep, and may look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with replacing(Path(path)) as draft:
        figure.savefig(draft, format="png", dpi=200)


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)


def _present(history: Sequence[Mapping[str, float | None]], key: str) -> tuple[list[float], list[float]]:
    points = [(row["epoch"], row.get(key)) for row in history]
    known = [(x, y) for x, y in points if x is not None and y is not None and np.isfinite(y)]
    return [x for x, _ in known], [y for _, y in known]


def learning_curve(history: Sequence[Mapping[str, float | None]], path: Path, title: str) -> None:
    """Validation NDCG@10 and training loss over epochs, the best epoch marked.

    Parameters
    ----------
    history
        One mapping an epoch: ``epoch`` (completed epochs, 0 untrained), ``valid/ndcg@10`` and
        ``train/loss``; the last two may be absent or None in epochs without them.
    path
        PNG file to write.
    title
        What was trained: dataset, model, loss.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.0, 4.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    figure.suptitle(title, fontsize=11)

    epochs, scores = _present(history, "valid/ndcg@10")
    above.plot(epochs, scores, color=BLUE, linewidth=1.6, marker="o", markersize=3)
    if scores:
        best = int(np.argmax(scores))  # the earliest on a tie, as the checkpoint is chosen
        for axes in (above, below):
            axes.axvline(epochs[best], color=GREY, linewidth=0.9, linestyle="--")
        note = f"best: {scores[best]:.4f} at epoch {epochs[best]:.0f}"
        above.plot(epochs[best], scores[best], "o", markersize=8, color=ORANGE, mec="white", label=note)
        # A curve that is kept has risen: the lower right is where it is not.
        above.legend(loc="lower right", frameon=False, fontsize=9)
    above.set_ylabel("validation NDCG@10")
    above.set_ylim(0, max([*scores, 1e-3]) * 1.12)

    epochs, losses = _present(history, "train/loss")
    below.plot(epochs, losses, color=GREY, linewidth=1.6, marker="o" if len(losses) < 3 else None)
    below.set_ylabel("training loss")
    below.set_xlabel("completed epochs")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (above, below):
        _tidy(axes)
    figure.align_ylabels()
    _save(figure, path)


def bootstrap_mean(
    values: NDArray[np.float64], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """Mean of values [n] and its 95 % percentile bootstrap interval over n draws with replacement."""
    # Per-user gains take few distinct values: drawing how often each appears is the same bootstrap,
    # and needs no [resamples, n] array of draws.
    distinct, counts = np.unique(values, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=resamples)
    low, high = np.quantile(draws @ distinct / len(values), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def popularity_bins(popularity_of_target: NDArray[np.int64], n_bins: int = 10) -> list[NDArray[np.bool_]]:
    """Users in about ``n_bins`` equal bins by their target's popularity; equal counts stay together.

    Parameters
    ----------
    popularity_of_target
        Training interactions of each user's target, [n].
    n_bins
        Bins wanted; fewer come where many targets are equally popular.

    Returns
    -------
    A mask [n] for every bin that has users, least popular first.
    """
    edges = np.unique(np.quantile(popularity_of_target, np.linspace(0, 1, n_bins + 1)[1:-1], method="higher"))
    place = np.searchsorted(edges, popularity_of_target, side="right")
    return [place == b for b in range(len(edges) + 1) if np.any(place == b)]


def ndcg_by_popularity(
    ranks: Ranks,
    targets: NDArray[np.int64],
    popularity: NDArray[np.int64],
    path: Path,
    title: str,
    shares: Sequence[float] = SHARES,
) -> None:
    """NDCG@10 against how popular the target is, with 95 % intervals and users per bin.

    Parameters
    ----------
    ranks
        1-based rank of each user's target, 0 for a miss, [n], n at least 1.
    targets
        The targets' item ids, [n].
    popularity
        Training interactions of each item, [I].
    path
        PNG file to write.
    title
        What was evaluated: dataset, model, loss.
    shares
        Shares of items in head, mid and tail, whose borders are drawn.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    counts = popularity[targets]
    values = gains("ndcg", ranks, 10)
    bins = popularity_bins(counts)
    # Popularity runs over orders of magnitude, and a target never seen in training has no logarithm:
    # then everything is drawn one to the right, and the ticks still tell the true counts.
    shift = 1 if counts.min() == 0 else 0
    x = np.array([np.exp(np.log(counts[b] + shift).mean()) for b in bins])  # geometric means
    estimates = np.array([bootstrap_mean(values[b]) for b in bins])
    mean, low, high = estimates.T

    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    figure.suptitle(title, fontsize=11)
    above.errorbar(
        x,
        mean,
        yerr=np.abs([mean - low, high - mean]),
        color=BLUE,
        marker="o",
        markersize=4.5,
        linewidth=1.4,
        elinewidth=1.1,
        capsize=3,
        clip_on=False,
        label=f"mean and 95 % interval ({RESAMPLES:,} resamples of users)",
    )
    overall = float(values.mean())
    above.axhline(overall, color=ORANGE, linewidth=1.0, linestyle=":", label=f"all users: {overall:.4f}")
    above.set_xscale("log")
    above.set_ylim(bottom=0, top=max(float(high.max()), overall, 1e-3) * 1.12)
    above.set_ylabel("test NDCG@10")
    above.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=8)

    groups = popularity_groups(popularity, shares)
    borders = []
    for upper, lower in ((HEAD, HEAD + 1), (TAIL - 1, TAIL)):
        if np.any(groups == upper) and np.any(groups == lower):
            # Between the least popular item of one group and the most popular of the next.
            pair = popularity[groups == upper].min(), popularity[groups == lower].max()
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

    users = [int(b.sum()) for b in bins]
    below.vlines(x, 0, users, color=BLUE, linewidth=5, alpha=0.55)
    below.set_ylim(0, max(users) * 1.45)
    for place, count in zip(x, users, strict=True):
        below.text(place, count, f"{count:,}", ha="center", va="bottom", fontsize=6.5, color=GREY)
    below.set_ylabel("users")
    below.set_yticks([])
    below.set_xlabel("training interactions of the target item (log scale)")
    ticks = [digit * 10**power for power in range(8) for digit in (1, 2, 5)]
    shown = [tick for tick in [0] * shift + ticks if span[0] <= tick + shift <= span[1]]
    below.xaxis.set_major_locator(FixedLocator([tick + shift for tick in shown]))
    below.xaxis.set_major_formatter(FixedFormatter([f"{tick:,}" for tick in shown]))
    below.xaxis.set_minor_locator(NullLocator())
    for axes in (above, below):
        _tidy(axes)
    figure.align_ylabels()
    _save(figure, path)
