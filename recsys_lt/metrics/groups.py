"""Head, mid and tail items, by their number of training interactions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUPS = ("head", "mid", "tail")
HEAD, MID, TAIL = range(3)
SHARES = (0.2, 0.6, 0.2)


@dataclass(frozen=True)
class ItemGroups:
    """Groups of the items, and the counts that define them.

    Parameters
    ----------
    popularity
        The counts that order the items, [I].
    of
        Group of each item, as ``popularity_groups`` gives it, [I] int8.
    ties
        Counts that order items of equal ``popularity``; None for their ids, [I].
    by
        What was counted, in words.
    share
        Share of the interactions that was counted, in words; "" for all.
    """

    popularity: NDArray[np.int64]
    of: NDArray[np.int8]
    ties: NDArray[np.int64] | None = None
    by: str = "training interactions"
    share: str = ""

    @property
    def order(self) -> NDArray[np.int64]:
        """Items, most popular first, [I]."""
        return by_popularity(self.popularity, self.ties)

    @property
    def words(self) -> str:
        """``by`` and ``share``, for the protocol."""
        return f"{self.by} ({self.share})" if self.share else self.by


def popularity_groups(
    popularity: NDArray[np.int64], shares: Sequence[float] = SHARES, ties: NDArray[np.int64] | None = None
) -> NDArray[np.int8]:
    """Group of every item.

    Items are ordered ``by_popularity``; the order is cut by shares of the catalogue. An item without any training
    interaction is tail whatever the shares.

    Parameters
    ----------
    popularity
        Training interactions of each item, [I].
    shares
        Shares of items in head, mid and tail: three positive numbers that sum to 1.
    ties
        See ``by_popularity``.

    Returns
    -------
    0 for head, 1 for mid, 2 for tail (an index into ``GROUPS``), [I] int8.
    """
    n_items = len(popularity)
    head_end = math.floor(shares[0] * n_items + 0.5)
    # From the far end, so that head and tail of equal shares are of equal size.
    mid_end = n_items - math.floor(shares[2] * n_items + 0.5)
    groups = np.full(n_items, MID, dtype=np.int8)
    order = by_popularity(popularity, ties)
    groups[order[:head_end]] = HEAD
    groups[order[max(head_end, mid_end) :]] = TAIL
    groups[popularity == 0] = TAIL
    return groups


def by_popularity(popularity: NDArray[np.int64], ties: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Items, most popular first, those of equal counts by ``ties`` (more first), then by item id: [I] -> [I]."""
    if ties is None:
        return np.argsort(-popularity, kind="stable")
    return np.lexsort((-ties, -popularity))
