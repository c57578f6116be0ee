"""A metric: how surprising the recommended items are."""

import numpy as np
from numpy.typing import NDArray

from recsys_lt.metrics.own import Metric


class Novelty(Metric):
    """Mean self-information of the recommended items, in bits (Vargas & Castells, RecSys 2011).

    Parameters
    ----------
    smoothing
        Interactions that are added to those of each item.
    """

    def __init__(self, smoothing: float = 1.0) -> None:
        self.smoothing = smoothing

    def __call__(
        self,
        ranks: NDArray[np.int64],
        targets: NDArray[np.int64],
        popularity: NDArray[np.int64],
        lists: NDArray[np.int64] | None,
    ) -> float | None:
        if lists is None:
            return None
        seen = popularity + self.smoothing
        return float(lists @ -np.log2(seen / seen.sum()) / lists.sum())
