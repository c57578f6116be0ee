"""How sure a mean over users is."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000


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
        # An even part of those who are left: one count that many share must not cost the others their bins.
        goal = done + (len(counts) - done) / max(n_bins - len(bins), 1)
        last = int(np.searchsorted(upto, goal))
        if last > first and goal - upto[last - 1] < upto[last] - goal:
            last -= 1
        bins.append((counts >= values[first]) & (counts <= values[last]))
        first, done = last + 1, int(upto[last])
    return bins
