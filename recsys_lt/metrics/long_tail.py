"""NDCG and exposure along the long tail: by the popularity of items, and by the length of histories."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lt.metrics.groups import HEAD, ItemGroups
from recsys_lt.metrics.ranking import Ranks, by_item, gains

K = 10
RESAMPLES = 1000


def deciles(
    ranks: Ranks, targets: NDArray[np.int64], exposed: NDArray[np.int64], groups: ItemGroups
) -> list[dict[str, Any]]:
    """NDCG@10, exposure and training interactions of ten equal parts of the catalogue, most popular items first.

    A catalogue of fewer items has one part an item.

    Parameters
    ----------
    ranks
        1-based rank of each user's target, 0 for a miss, [n].
    targets
        The targets' item ids, [n].
    exposed
        How often each item is in a list of ten, [I].
    groups
        Of the items, and their order.

    Returns
    -------
    For each part: ``items``; ``least`` and ``most``, counts of its items; ``interactions`` and ``exposure``, its
    shares of all counted interactions and of all lists (None where there are none at all); and what ``served_users``
    says of the users whose target is in it.
    """
    n_items = len(groups.of)
    part_of = np.empty(n_items, dtype=np.int16)
    pieces = np.array_split(groups.order, min(10, n_items))
    for number, piece in enumerate(pieces):
        part_of[piece] = number
    values, place = gains("ndcg", ranks, K), part_of[targets]
    return [
        {
            "items": len(piece),
            "least": int(groups.popularity[piece].min()),
            "most": int(groups.popularity[piece].max()),
            "interactions": _share(groups.popularity, piece),
            "exposure": _share(exposed, piece),
            **served_users(values[place == number]),
        }
        for number, piece in enumerate(pieces)
    ]


def histories(
    ranks: Ranks, targets: NDArray[np.int64], lengths: NDArray[np.int64], groups: ItemGroups
) -> list[dict[str, Any]]:
    """NDCG@10 by the number of events before the target, in about eight equal bins, shortest histories first.

    Parameters
    ----------
    ranks, targets
        As in ``deciles``, [n], n at least 1.
    lengths
        Events before each user's target, [n].
    groups
        Of the items.

    Returns
    -------
    For each bin: ``shortest`` and ``longest`` history in it, what ``served_users`` says of its users, and under
    ``nonhead`` the same of those whose target is no head item.
    """
    values, nonhead = gains("ndcg", ranks, K), groups.of[targets] != HEAD
    return [
        {
            "shortest": int(lengths[inside].min()),
            "longest": int(lengths[inside].max()),
            **served_users(values[inside]),
            "nonhead": served_users(values[inside & nonhead]),
        }
        for inside in equal_bins(lengths, 8)
    ]


def uniform(ranks: Ranks, targets: NDArray[np.int64]) -> dict[str, Any]:
    """NDCG@10 with targets of uniform popularity: ``items``, the mean over them, and its interval ``low`` to ``high``.

    For ranks and targets see ``deciles``; for the mean ``by_item``; for the interval, over items, ``served_users``.
    """
    _, values = by_item(gains("ndcg", ranks, K), targets)
    served = served_users(values)
    return {"items": served.pop("users"), **served}


def _share(counts: NDArray[np.int64], items: NDArray[np.int64]) -> float | None:
    total = int(counts.sum())
    return float(counts[items].sum() / total) if total else None


def served_users(values: NDArray[np.float64]) -> dict[str, Any]:
    """Number of users with these gains [n], their mean ``ndcg@10``, and its 95 % interval ``low`` to ``high``.

    The interval is a percentile bootstrap's, over n draws with replacement. None for the last three where there is no
    user.
    """
    mean = low = high = None
    if len(values):
        # Per-user gains take few distinct values: drawing how often each appears is the same bootstrap,
        # and needs no [resamples, n] array of draws.
        distinct, counts = np.unique(values, return_counts=True)
        draws = np.random.default_rng(0).multinomial(len(values), counts / len(values), size=RESAMPLES)
        low, high = np.quantile(draws @ distinct / len(values), [0.025, 0.975]).tolist()
        mean = float(values.mean())
    return {"users": len(values), f"ndcg@{K}": mean, "low": low, "high": high}


def equal_bins(counts: NDArray[np.int64], n_bins: int) -> list[NDArray[np.bool_]]:
    """Users in about ``n_bins`` equal bins by a count of theirs; equal counts stay together.

    Parameters
    ----------
    counts
        Such as training interactions of each user's target, or events of their history, [n].
    n_bins
        Bins wanted; fewer come where many counts are equal.

    Returns
    -------
    A mask [n] for every bin that has users, lowest counts first.
    """
    values, users = np.unique(counts, return_counts=True)
    upto = np.cumsum(users)
    bins: list[NDArray[np.bool_]] = []
    first = done = 0
    while first < len(values):
        # An even part of the users that remain: a count that many users share must not use up the bins of the others.
        goal = done + (len(counts) - done) / max(n_bins - len(bins), 1)
        last = int(np.searchsorted(upto, goal))
        if last > first and goal - upto[last - 1] < upto[last] - goal:
            last -= 1
        bins.append((counts >= values[first]) & (counts <= values[last]))
        first, done = last + 1, int(upto[last])
    return bins
