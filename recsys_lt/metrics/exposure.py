"""Popularity bias of recommended lists, from exposure counts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys_lt.metrics.groups import GROUPS, TAIL


class Exposure:
    """Exposure counts: how often each item is in a user's first k, for every k. The lists themselves are not kept.

    ``counts`` is its only state. Sum it over processes in place (``torch.from_numpy(exposure.counts)`` shares its
    memory) before reading; the sums are exact.

    Parameters
    ----------
    n_items
        Size of the catalogue, I.
    ks
        List lengths; one that is longer than the catalogue is a list of all items.
    """

    def __init__(self, n_items: int, ks: Sequence[int]) -> None:
        if not ks or min(ks) < 1:
            raise ValueError(f"list lengths must be 1 or more, not {list(ks)}")
        self.ks = tuple(ks)
        self.counts: NDArray[np.int64] = np.zeros((len(self.ks), n_items), dtype=np.int64)

    def update(self, top_items: NDArray[np.int64]) -> None:
        """Count lists, best item first: [n, k_max] item ids, -1 where a list is shorter."""
        if top_items.shape[1] < min(max(self.ks), self.counts.shape[1]):
            raise ValueError(f"lists of {top_items.shape[1]} items cannot be counted at {max(self.ks)}")
        for counts, k in zip(self.counts, self.ks, strict=True):
            listed = top_items[:, :k].ravel()
            np.add.at(counts, listed[listed >= 0], 1)


def gini(counts: NDArray[np.int64]) -> float | None:
    """Gini coefficient of exposure, unrecommended items included; None where nothing was exposed.

    sum_j (2j - I - 1) e_(j) / (I sum e), e in ascending order: 0 where all items have the same exposure,
    1 - 1/I where one item has all of it.

    Parameters
    ----------
    counts
        Exposures of each item, [I].
    """
    total = int(counts.sum())
    if total == 0:
        return None
    n_items = len(counts)
    weights = 2.0 * np.arange(1, n_items + 1) - n_items - 1
    return float(weights @ np.sort(counts).astype(np.float64) / (n_items * total))


def exposure_metrics(
    counts: NDArray[np.int64], popularity: NDArray[np.int64], groups: NDArray[np.int8], k: int
) -> dict[str, float | None]:
    """Popularity-bias metrics of the exposures at one k.

    With lists of k items for all users, ARP and APLT are the usual means over users; where some lists
    are shorter, every listed item has the same weight.

    Parameters
    ----------
    counts
        Exposures of each item in lists of k, [I].
    popularity
        Training interactions of each item, [I].
    groups
        Group of each item, as ``popularity_groups`` gives it, [I].
    k
        List length, for the names.

    Returns
    -------
    ``arp@k`` mean training interactions of what is recommended (a count); ``aplt@k`` share of tail
    items in a list; ``coverage@k`` share of the catalogue recommended to anyone; ``gini@k``;
    ``head/exposure@k``, ``mid/...``, ``tail/...`` shares of all exposure. None for all of them but
    coverage where nothing was recommended.
    """
    total = int(counts.sum())
    shares: list[float | None] = [
        float(counts[groups == group].sum() / total) if total else None for group in range(len(GROUPS))
    ]
    arp = float(counts.astype(np.float64) @ popularity / total) if total else None
    return {
        f"arp@{k}": arp,
        f"aplt@{k}": shares[TAIL],
        f"coverage@{k}": float(np.count_nonzero(counts) / len(counts)),
        f"gini@{k}": gini(counts),
    } | {f"{name}/exposure@{k}": share for name, share in zip(GROUPS, shares, strict=True)}
