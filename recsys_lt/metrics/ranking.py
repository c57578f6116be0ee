"""Ranking metrics of one target a user, from its rank alone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.int64]

RANKING_METRICS = ("hr", "ndcg", "mrr")


def gains(metric: str, ranks: Ranks, k: int) -> NDArray[np.float64]:
    """What each user's rank is worth under one metric; its mean over users is the metric.

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
    if metric == "hr":
        value = np.ones_like(place)
    elif metric == "ndcg":
        value = 1.0 / np.log2(1.0 + place)
    elif metric == "mrr":
        value = 1.0 / place
    else:
        raise ValueError(f"no ranking metric {metric!r}; there are {', '.join(RANKING_METRICS)}")
    return np.where(hit, value, 0.0)


def ranking(ranks: Ranks, ks: Sequence[int], depth: int | None = None) -> dict[str, float | None]:
    """HR, NDCG and MRR at every k, means over users.

    Parameters
    ----------
    ranks
        1-based rank of each user's target, 0 for a miss, [n].
    ks
        List lengths.
    depth
        How many items a list-only model orders; None where the whole catalogue is ranked.

    Returns
    -------
    ``{"hr@10": ..., "ndcg@10": ..., "mrr@10": ...}`` for every k. None where there is no user to
    average over, or where k lies beyond ``depth``: what was not ranked has not been measured.
    """
    values: dict[str, float | None] = {}
    for k in ks:
        known = len(ranks) > 0 and (depth is None or k <= depth)
        for metric in RANKING_METRICS:
            values[f"{metric}@{k}"] = float(gains(metric, ranks, k).mean()) if known else None
    return values
