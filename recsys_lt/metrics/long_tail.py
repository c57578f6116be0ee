"""NDCG and exposure along the long tail: by the popularity of items, and by the length of histories."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_lt.metrics.groups import HEAD, ItemGroups
from recsys_lt.metrics.ranking import Ranks, gains

K = 10
RESAMPLES = 1000


def deciles(
    ranks: Ranks, targets: NDArray[np.int64], exposed: NDArray[np.int64], groups: ItemGroups, parts: int = 10
) -> list[dict[str, Any]]:
    """NDCG@10, exposure and training interactions of equal parts of the catalogue, most popular items first.

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
    parts
        How many; a smaller catalogue has one an item.

    Returns
    -------
    For each part: ``items``; ``least`` and ``most``, counts of its items; ``interactions`` and ``exposure``, its
    shares of all counted interactions and of all lists (None where there are none at all); and what ``served_users``
    says of the users whose target is in it.
    """
    n_items = len(groups.of)
    part_of = np.empty(n_items, dtype=np.int16)
    pieces = np.array_split(groups.order, min(parts, n_items))
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
    ranks: Ranks, targets: NDArray[np.int64], lengths: NDArray[np.int64], groups: ItemGroups, n_bins: int = 8
) -> list[dict[str, Any]]:
    """NDCG@10 by the number of events before the target, shortest histories first.

    Parameters
    ----------
    ranks, targets
        As in ``deciles``, [n], n at least 1.
    lengths
        Events before each user's target, [n].
    groups
        Of the items.
    n_bins
        About so many bins with about as many users each; equal lengths stay together.

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
        for inside in equal_bins(lengths, n_bins)
    ]


def target_popularity(
    ranks: Ranks, targets: NDArray[np.int64], groups: ItemGroups, n_bins: int = 10
) -> list[dict[str, Any]]:
    """NDCG@10 by the popularity of the target, most popular first.

    Parameters
    ----------
    ranks, targets, groups
        As in ``deciles``, n at least 1.
    n_bins
        About so many bins with about as many users each; equal popularities stay together.

    Returns
    -------
    For each bin: ``least`` and ``most``, counts of its targets, and what ``served_users`` says of its users.
    """
    values, popularity = gains("ndcg", ranks, K), groups.popularity[targets]
    return [
        {
            "least": int(popularity[inside].min()),
            "most": int(popularity[inside].max()),
            **served_users(values[inside]),
        }
        for inside in reversed(equal_bins(popularity, n_bins))
    ]


def _share(counts: NDArray[np.int64], items: NDArray[np.int64]) -> float | None:
    total = int(counts.sum())
    return float(counts[items].sum() / total) if total else None


def served_users(values: NDArray[np.float64]) -> dict[str, Any]:
    """Number of users with these gains [n], their mean ``ndcg@10``, and its 95 % interval ``low`` to ``high``.

    None for the last three where there is no user.
    """
    mean, low, high = bootstrap_mean(values) if len(values) else (None, None, None)
    return {"users": len(values), f"ndcg@{K}": mean, "low": low, "high": high}


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: NDArray[np.float64], seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Mean of values [n] and its 95 % percentile bootstrap interval over n draws with replacement."""
    # Per-user gains take few distinct values: drawing how often each appears is the same bootstrap,
    # and needs no [resamples, n] array of draws.
    distinct, counts = np.unique(values, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=resamples)
    low, high = np.quantile(draws @ distinct / len(values), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def equal_bins(counts: NDArray[np.int64], n_bins: int = 10) -> list[NDArray[np.bool_]]:
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
