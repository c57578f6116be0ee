"""Metrics of a user's own, which ``metrics.extra`` names."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from recsys_lt.errors import UserError
from recsys_lt.metrics.ranking import Ranks


class Metric(ABC):
    """A metric of the users' ranks, or of what is recommended to them; its options are the keys of its node."""

    @abstractmethod
    def __call__(
        self, ranks: Ranks, targets: NDArray[np.int64], popularity: NDArray[np.int64], lists: NDArray[np.int64] | None
    ) -> float | None:
        """The metric of n users.

        Parameters
        ----------
        ranks
            1-based rank of each user's target, 0 for one that was not listed, [n], n at least 1.
        targets
            The targets' item ids, [n].
        popularity
            Training interactions of each item, [I].
        lists
            How often each item is in the users' lists of ten, [I]; None in validation and for a part of the users,
            where lists are not counted.

        Returns
        -------
        A finite number; None for what cannot be measured of these.
        """


def own_metrics(
    extra: Mapping[str, Metric],
    ranks: Ranks,
    targets: NDArray[np.int64],
    popularity: NDArray[np.int64],
    lists: NDArray[np.int64] | None,
    members: Mapping[str, NDArray[np.bool_]],
) -> dict[str, float | None]:
    """Values of the metrics of all users, by name, and of the ``members`` of groups, by ``group/name``.

    UserError for a value that is not a finite number.
    """
    values: dict[str, float | None] = {}
    for name, metric in extra.items():
        for group, inside in {"": np.ones(len(ranks), dtype=np.bool_), **members}.items():
            some = ranks[inside]
            found = metric(some, targets[inside], popularity, None if group else lists) if len(some) else None
            if found is not None and not math.isfinite(found):
                raise UserError(
                    f"it is {found}", where=f"metrics.extra.{name}", remedy="Return a finite number, or None"
                )
            values[f"{group}/{name}".removeprefix("/")] = None if found is None else float(found)
    return values
