"""Ranking metrics of one target a user, from its rank alone."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.int64]

#: Rank of a target that is not listed: a miss at every k.
UNLISTED = 0
#: Gain of a place within the list, 1-based.
RANKING_METRICS: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "hr": np.ones_like,
    "ndcg": lambda place: 1.0 / np.log2(1.0 + place),
    "mrr": lambda place: 1.0 / place,
}


def gains(metric: str, ranks: Ranks, k: int) -> NDArray[np.float64]:
    """Gain of each user's rank under one metric; its mean over users is the metric.

    Parameters
    ----------
    metric
        ``hr``: 1 within the first k; ``ndcg``: 1 / log2(1 + rank); ``mrr``: 1 / rank; all 0 beyond k.
    ranks
        Rank of each user's target, 1-based; 0 for a target that was not listed, which is a miss, [n].
    k
        Length of the list that counts.

    Returns
    -------
    Gains in 0..1, [n] float64.
    """
    if ranks.size and ranks.min() < 0:
        raise ValueError("ranks are 1-based, or 0 for a target that was not listed")
    hit = (ranks >= 1) & (ranks <= k)
    place = np.where(hit, ranks, 1).astype(np.float64)
    return np.where(hit, RANKING_METRICS[metric](place), 0.0)


def random_order(ranks: Ranks, n: int, ks: Sequence[int]) -> dict[str, float | None]:
    """HR, NDCG and MRR of a re-ranker that puts the first n items of each list in random order.

    Parameters
    ----------
    ranks
        1-based rank of each user's target before, 0 for a miss, [users]; a target behind the first n keeps its rank.
    n
        Items that are put in random order.
    ks
        List lengths.

    Returns
    -------
    Expected values over all orders, named as those of ``ranking``, and the standard deviation of NDCG over the orders,
    ``ndcg_std@10``, for every k. None where there is no user.
    """
    values = ranking(ranks, ks)
    if len(ranks) == 0:
        return values | {f"ndcg_std@{k}": None for k in ks}
    found = (ranks >= 1) & (ranks <= n)
    for k in ks:
        for metric in RANKING_METRICS:
            anywhere = gains(metric, np.arange(1, n + 1), k)
            values[f"{metric}@{k}"] = float(np.where(found, anywhere.mean(), gains(metric, ranks, k)).mean())
            if metric == "ndcg":  # users are put in order apart, so their variances add up
                values[f"ndcg_std@{k}"] = float(anywhere.std() * found.sum() ** 0.5 / len(ranks))
    return values


def by_item(values: NDArray[np.float64], targets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Distinct targets, ascending, and the mean over the users of each: values and targets [n] -> [items] twice.

    Their mean is that of users whose targets were drawn uniformly from these items, and not by popularity.
    """
    items, place, users = np.unique(targets, return_inverse=True, return_counts=True)
    return items, np.bincount(place, values, len(items)) / users


def ranking(
    ranks: Ranks, ks: Sequence[int], depth: int | None = None, targets: NDArray[np.int64] | None = None
) -> dict[str, float | None]:
    """HR, NDCG and MRR at every k, means over users.

    Parameters
    ----------
    ranks
        1-based rank of each user's target, 0 for a miss, [n].
    ks
        List lengths.
    depth
        How many items a list-only model orders; None where the whole catalogue is ranked.
    targets
        Each user's target, [n], for means over items of their users' means (``by_item``); None for means over users.

    Returns
    -------
    ``{"hr@10": ..., "ndcg@10": ..., "mrr@10": ...}`` for every k. None where there is no user to
    average over, or where k lies beyond ``depth``: what was not ranked has not been measured.
    """
    values: dict[str, float | None] = {}
    for k in ks:
        known = len(ranks) > 0 and (depth is None or k <= depth)
        for metric in RANKING_METRICS:
            found = gains(metric, ranks, k) if known else None
            if found is not None and targets is not None:
                _, found = by_item(found, targets)
            values[f"{metric}@{k}"] = None if found is None else float(found.mean())
    return values
