"""Head, mid and tail items, by their number of training interactions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

GROUPS = ("head", "mid", "tail")
HEAD, MID, TAIL = range(3)
SHARES = (0.2, 0.6, 0.2)


@dataclass(frozen=True)
class ItemGroups:
    """Groups of the items: their ``order``, most popular first, is cut by shares of the catalogue.

    An item that no interaction was counted of is tail whatever the shares.

    Parameters
    ----------
    popularity
        The counts that order the items, [I].
    shares
        Shares of items in head, mid and tail: three positive numbers that sum to 1.
    ties
        Counts that order items of equal ``popularity``; None for their ids, [I].
    by
        What was counted, in words.
    share
        Share of the interactions that was counted, in words; "" for all.
    """

    popularity: NDArray[np.int64]
    shares: Sequence[float] = SHARES
    ties: NDArray[np.int64] | None = None
    by: str = "training interactions"
    share: str = ""

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Items, most popular first, those of equal counts by ``ties`` (more first), then by item id, [I]."""
        if self.ties is None:
            return np.argsort(-self.popularity, kind="stable")
        return np.lexsort((-self.ties, -self.popularity))

    @cached_property
    def of(self) -> NDArray[np.int8]:
        """Group of each item, an index into ``GROUPS``: 0 for head, 1 for mid, 2 for tail, [I] int8."""
        n_items = len(self.popularity)
        head_end = math.floor(self.shares[0] * n_items + 0.5)
        # From the far end, so that head and tail of equal shares are of equal size.
        mid_end = n_items - math.floor(self.shares[2] * n_items + 0.5)
        groups = np.full(n_items, MID, dtype=np.int8)
        groups[self.order[:head_end]] = HEAD
        groups[self.order[max(head_end, mid_end) :]] = TAIL
        groups[self.popularity == 0] = TAIL
        return groups

    @property
    def words(self) -> str:
        """``by`` and ``share``, for the protocol."""
        return f"{self.by} ({self.share})" if self.share else self.by
