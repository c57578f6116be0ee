"""Ranks from scores that are no dot products: a user's whole catalogue at once."""

from typing import NamedTuple

import torch
from torch import Tensor

from recsys_lt.data.batch import SeenSets


class Ranked(NamedTuple):
    """How a catalogue is ranked for B users.

    Parameters
    ----------
    ranks
        1-based ranks of the targets, [B] int64 (empty without targets).
    items
        The first k items, best first, [B, k] int64; -1 where a list ends early.
    scores
        What they are ordered by, [B, k]; minus infinity where the model gives none.
    """

    ranks: Tensor
    items: Tensor
    scores: Tensor


def rank_of_scores(scores: Tensor, targets: Tensor, masked: SeenSets | None, k: int) -> Ranked:
    """Rank targets and list the first k items.

    Ties count against the target, and so does a score that is not a number, as in ``rank_by_scores``.

    Parameters
    ----------
    scores
        [B, I]; overwritten where masked.
    targets
        [B], or empty when only lists are wanted.
    masked
        Items that cannot be recommended, by row. A target among them is ranked I.
    k
        Length of the lists; 0 for none.
    """
    n_rows, n_items = scores.shape
    ranks = targets.new_zeros(0)
    bar = scores.gather(1, targets.unsqueeze(1)) if len(targets) else None
    hidden = torch.zeros_like(scores, dtype=torch.bool)
    if masked is not None:
        rows = torch.arange(n_rows, device=scores.device)
        hidden[torch.repeat_interleave(rows, masked.offsets.diff()), masked.items] = True
        scores = scores.masked_fill(hidden, -torch.inf)
    if bar is not None:
        ranks = n_items - (scores < bar).sum(1)
        ranks[hidden.gather(1, targets.unsqueeze(1)).squeeze(1)] = n_items
    values, items = scores.sort(dim=1, descending=True, stable=True)
    values, items = values[:, :k], items[:, :k]
    return Ranked(ranks, items.masked_fill(values == -torch.inf, -1), values)
