"""A history as the mean of its items."""

import torch
from torch import Tensor, nn

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.tasks.next_item import EveryPosition
from recsys_lt.losses.output_table import OutputTable


class MeanItems(Backbone):
    """Mean of the item vectors up to each position, through one layer; scored against the same item vectors.

    Parameters
    ----------
    facts
        Sizes of the data.
    width
        Width d of item vectors and states.
    max_length
        Latest events read.
    """

    def __init__(self, facts: DataFacts, width: int, max_length: int) -> None:
        super().__init__()
        self.max_length = max_length
        self.task = EveryPosition(max_length)
        self.items = nn.Embedding(facts.n_items, width)
        self.layer = nn.Linear(width, width)
        nn.init.normal_(self.items.weight, std=width**-0.5)

    def states(self, batch: Batch) -> Tensor:
        """[N, d]: the mean at each position of every history, which lie end to end in ``batch.items`` [T]."""
        sums = self.items(batch.items).cumsum(0)
        before = torch.cat([sums.new_zeros(1, sums.shape[1]), sums])[batch.offsets[:-1]]
        rows = batch.rows_of_events()
        place = torch.arange(len(rows), device=rows.device) - batch.offsets[rows] + 1
        return self.layer((sums - before[rows]) / place.unsqueeze(1))

    def user_states(self, batch: Batch) -> Tensor:
        """[B, d]: the state after the last event."""
        return self.states(batch)[batch.offsets[1:] - 1]

    def output_table(self) -> OutputTable:
        """[I, d], the item vectors."""
        return OutputTable(self.items.weight)
