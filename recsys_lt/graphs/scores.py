"""Scores of an item graph: what follows the items of a history, and what is like them."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.errors import UserError


@dataclass(frozen=True)
class GraphSettings:
    """The numbers of an item graph.

    Parameters
    ----------
    decay, distance, backward
        Of the counts of transitions, see ``transitions``.
    row, column
        Powers of the sums by which counts are divided, see ``normalised``.
    kept
        Largest entries of each row of a matrix that are kept.
    history
        Weight of an event of the history for what follows it, by each newer event that comes after.
    neighbours
        Items of the most similar text that are kept for each.
    similar
        Weight of what is similar to the history's items; with the three weights 0 text is not used.
    similar_history
        As ``history``, for what is similar.
    from_similar
        Weight of what follows items that are similar to the history's.
    to_similar
        Weight of what is similar to items that follow the history's.
    popularity
        Score of each training interaction of an item that has no other score.
    """

    decay: float = 0.6
    distance: int = 50
    backward: float = 0.5
    row: float = 0.6
    column: float = 0.1
    kept: int = 400
    history: float = 0.6
    neighbours: int = 100
    similar: float = 0.2
    similar_history: float = 0.8
    from_similar: float = 1.0
    to_similar: float = 0.3
    popularity: float = 1e-9

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            least = 1 if one.name in ("distance", "kept", "neighbours") else 0
            if value < least:
                raise UserError(f"it is {value}", where=f"model.graph.{one.name}", remedy=f"Give at least {least}")
            if value > 1 and one.name in ("decay", "history", "similar_history"):
                raise UserError(f"it is {value}", where=f"model.graph.{one.name}", remedy="Give a factor from 0 to 1")

    @property
    def reads_texts(self) -> bool:
        return max(self.similar, self.from_similar, self.to_similar) > 0


@dataclass(frozen=True)
class Graph:
    """The matrices that histories are multiplied by, [I, I] each, and the settings they were made with.

    ``following`` holds how strongly an item is expected after another, ``similar`` the cosines of texts; None where no
    text is used.
    """

    settings: GraphSettings
    following: sp.csr_array
    similar: sp.csr_array | None = None

    def scores(self, batch: Batch, popularity: Tensor) -> Tensor:
        """Scores of all items for each history, [B, I] float32 on the CPU; ``popularity`` is [I] counts."""
        weights, matrix = self._side_by_side
        items, offsets = batch.items.cpu().numpy(), batch.offsets.cpu().numpy()
        parts = [_weighted(items, offsets, scale, decay, len(popularity)) for scale, decay in weights]
        found = torch.from_numpy((sp.hstack(parts, format="csr") @ matrix).toarray())
        return torch.where(found == 0, self.settings.popularity * popularity.cpu().float(), found)

    @cached_property
    def _side_by_side(self) -> tuple[list[tuple[float, float]], sp.csr_array]:
        """Scale and decay of each part of the scores, and its matrices on top of each other.

        One product of all parts takes less time than a sum of products.
        """
        s = self.settings
        if self.similar is None or not s.similar:
            return [(1.0, s.history)], self.following
        # An item gets the cosines of those of its own neighbours that are in the history.
        matrices = (self.following, self.similar.T)
        return [(1.0, s.history), (s.similar, s.similar_history)], sp.vstack(matrices, format="csr")


def _weighted(items: NDArray[Any], offsets: NDArray[Any], scale: float, decay: float, n_items: int) -> sp.csr_array:
    """Histories as rows, [B, I]: an event weighs ``scale``, times ``decay`` for each event of its row after it."""
    after = np.repeat(offsets[1:], np.diff(offsets)) - 1 - np.arange(len(items))
    weights = (scale * decay ** after.astype(np.float64)).astype(np.float32)
    return sp.csr_array((weights, items, offsets), shape=(len(offsets) - 1, n_items))
