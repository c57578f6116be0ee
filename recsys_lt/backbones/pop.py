"""Popularity: the same most frequent items for every user."""

from typing import ClassVar

import torch
from torch import Tensor

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.losses.output_table import OutputTable


class Pop(Backbone):
    """An item's score is its number of training interactions; nothing is learned.

    Equal counts tie, and the ranker counts ties against the target. As float32 they are exact up to 2**24.
    """

    trainable: ClassVar[bool] = False
    counts: Tensor

    def __init__(self, facts: DataFacts) -> None:
        super().__init__()
        self.max_length = 1
        self.task = Prefixes(max_length=1)
        self.register_buffer("counts", facts.popularity.to(torch.float32).unsqueeze(1))

    def user_states(self, batch: Batch) -> Tensor:
        return self.counts.new_ones(len(batch), 1)

    def padded_states(self, items: Tensor, real: Tensor) -> Tensor:
        """See ``Backbone.padded_states``."""
        return self.counts.new_ones(items.shape[0], 1)

    def output_table(self) -> OutputTable:
        return OutputTable(self.counts)
