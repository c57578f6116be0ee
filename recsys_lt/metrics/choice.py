"""The choice between trials, by NDCG@10 over all validation users and over those whose target is mid or tail."""

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import HEAD, ItemGroups
from recsys_lt.metrics.ranking import Ranks, gains

_Trial = TypeVar("_Trial")


class Quality(NamedTuple):
    """NDCG@10 of a trial over validation users: all of them, and those with a mid or tail target (0 without any)."""

    overall: float
    nonhead: float

    @classmethod
    def of(cls, ranks: Ranks, nonhead: NDArray[np.bool_]) -> "Quality":
        """From each user's rank of the target, and whether that target is mid or tail, [n]."""
        found = gains("ndcg", ranks, 10)
        return cls(float(found.mean()), float(found[nonhead].mean()) if nonhead.any() else 0.0)

    def row(self) -> dict[str, float]:
        """As a trial's file has it."""
        return {"valid/ndcg@10": self.overall, "valid/nonhead/ndcg@10": self.nonhead}


def is_nonhead(targets: NDArray[np.int64], popularity: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether targets [n] are outside the most popular fifth of the items, by training interactions [I]."""
    return ItemGroups(popularity).of[targets] != HEAD


def chosen(trials: Iterable[tuple[_Trial, Quality]], keep: float, top: float = 0.0) -> tuple[_Trial, Quality]:
    """The trial, with its quality, of highest nonhead NDCG@10 among those that keep a share of the highest overall one.

    With ``keep`` 1 only the trials of highest overall NDCG@10 remain. Of equals the first is taken. ``top`` is an
    overall NDCG@10 of earlier trials; where no trial keeps its share of that, the one of highest overall NDCG@10 is
    taken.
    """
    found = list(trials)
    best = max(quality.overall for _, quality in found)
    floor = min(best, keep * max(best, top))
    able = [(one, quality) for one, quality in found if quality.overall >= floor]
    return max(able, key=lambda trial: trial[1].nonhead)


def check_keep(keep: float) -> None:
    """Raise UserError unless ``model.keep`` is a share."""
    if not 0 < keep <= 1:
        remedy = "Give a share above 0 and at most 1: 0.98 lets overall NDCG@10 fall by 2 %"
        raise UserError(f"it is {keep}", where="model.keep", remedy=remedy)
