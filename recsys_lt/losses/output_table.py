"""Scorers of the catalogue: a table of item vectors, or any scorer that gives scores in blocks of items."""

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

#: Tables of fewer rows (positions; small catalogues) are cheaper to update whole.
LARGE_TABLE = 1000


class Scorer(Protocol):
    """Scores of the catalogue's items for states, a block of items at a time.

    Scores need not be dot products: an MLP of state and item, the best of several interests. ``rank_by_scores`` ranks
    by any scorer and ``Loss.by_blocks`` trains one; most losses need an ``OutputTable``.
    """

    @property
    def n_items(self) -> int:
        """Size of the catalogue, I."""

    def block(self, states: Tensor, start: int, stop: int) -> Tensor:
        """Scores of items start to stop - 1 for states [B, ...]: [B, stop - start], in memory of its own."""

    def lower_bounds(self, states: Tensor, items: Tensor) -> Tensor:
        """Scores of one item a state, [B], lowered by as much as ``block`` may round them otherwise."""


class OutputTable(NamedTuple):
    """Score of item v for a state h: ``weight[v] . h + bias[v]``. The usual ``Scorer``.

    Weight is [I, d], bias [I] or None. A loss that reads few of the rows may return the gradients of those alone where
    the table is ``sparse``, as a sparse tensor. Where ``cosine``, states count at length 1, as the vectors of ``unit``
    have it.
    """

    weight: Tensor
    bias: Tensor | None = None
    sparse: bool = False
    cosine: bool = False

    @property
    def n_items(self) -> int:
        return len(self.weight)

    def block(self, states: Tensor, start: int, stop: int) -> Tensor:
        scores = self.read(states) @ self.weight[start:stop].T
        if self.bias is not None:
            scores += self.bias[start:stop]
        return scores

    def unit(self) -> "OutputTable":
        """Scores that are cosines: the same vectors at length 1, without bias."""
        return OutputTable(F.normalize(self.weight, dim=1), cosine=True)

    def read(self, states: Tensor) -> Tensor:
        """The states as they count, [..., d]."""
        return F.normalize(states, dim=-1) if self.cosine else states

    def lower_bounds(self, states: Tensor, items: Tensor) -> Tensor:
        states, vectors = self.read(states), self.weight[items]
        score = (states * vectors).sum(1)
        # Two orders of summation of one dot product differ by about sqrt(d) roundings of its size.
        slack = states.norm(dim=1) * vectors.norm(dim=1)
        if self.bias is not None:
            score = score + self.bias[items]
            slack = slack + self.bias[items].abs()
        return score - 2 * states.shape[1] ** 0.5 * torch.finfo(states.dtype).eps * slack
