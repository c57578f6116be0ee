"""Caser: convolutions over the latest few items, and the user's own vector."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.backbones.layers import PaddedItems, RowDropout
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.losses.output_table import OutputTable

# Values in the matrix all horizontal filters make together: up to 4 MB, a window of 12 events as published.
_LARGEST_MATRIX = 1 << 20


class Caser(Backbone):
    """The last L items as an image [L, d], convolved along and across time, beside a user embedding.

    Source: Tang & Wang, WSDM 2018, as trained in MTandHJ/CE-SCE-LLMRec. States are 2d wide: d of the
    convolutions and d of the user. They are scored with a table and bias of their own.

    Parameters
    ----------
    facts, width, max_length, dropout
        See ``Backbone``; there is an embedding of each user, and dropout of the convolutions' features.
    vertical
        Filters along time: each a weighted sum of the L items, for every coordinate.
    horizontal
        Filters across coordinates, for each height 1..L, each max-pooled over time.
    """

    keeps_users: ClassVar[bool] = True

    def __init__(
        self,
        facts: DataFacts,
        *,
        width: int = 64,
        max_length: int = 5,
        vertical: int = 4,
        horizontal: int = 16,
        dropout: float = 0.7,
    ) -> None:
        super().__init__(width=width, max_length=max_length, vertical=vertical, horizontal=horizontal)
        self.max_length = max_length
        # A prefix fills the window together with its target, as in the reference: 4 items in, 1 to predict.
        self.task = Prefixes(max_length, min_length=max(max_length, 2))
        std = 1 / width  # the reference's standard deviation of every embedding
        self.items = PaddedItems(facts.n_items, width, std)
        self.users = nn.Embedding(facts.n_users, width)
        self.vertical = nn.Conv2d(1, vertical, (max_length, 1))
        self.horizontal = nn.ModuleList(
            nn.Conv2d(1, horizontal, (height, width)) for height in range(1, max_length + 1)
        )
        self.dropout = RowDropout(dropout, salt=0)
        self.dense = nn.Linear(vertical * width + horizontal * max_length, width)
        self.out_weight = nn.Parameter(torch.empty(facts.n_items, 2 * width).normal_(0, std))
        self.out_bias = nn.Parameter(torch.zeros(facts.n_items))
        nn.init.normal_(self.users.weight, std=std)
        nn.init.xavier_normal_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def user_states(self, batch: Batch) -> Tensor:
        image = self.items(batch, self.max_length)  # [B, L, d]
        assert self.vertical.bias is not None
        along_time = self.vertical.weight.flatten(1) @ image + self.vertical.bias.unsqueeze(1)
        features = torch.cat([along_time.flatten(1), self._across_coordinates(image)], 1)
        history = self.dense(self.dropout(features, batch.streams)).relu()
        return torch.cat([history, self.users(batch.users)], 1)

    def _across_coordinates(self, image: Tensor) -> Tensor:
        """[B, L, d] -> [B, horizontal * L]: for each height, the largest of its responses over time.

        All heights at all their places are one product, with a matrix that is zero where a filter does not reach. In a
        long window that matrix would be large and mostly zero; convolutions serve there.
        """
        length, width = image.shape[1:]
        convs = [conv for conv in self.horizontal if isinstance(conv, nn.Conv2d)]
        filters = convs[0].out_channels
        if length * width * filters * length * (length + 1) // 2 > _LARGEST_MATRIX:
            return torch.cat([conv(image.unsqueeze(1)).squeeze(3).relu().amax(2) for conv in convs], 1)
        placed = [
            nn.functional.pad(conv.weight.flatten(1), (place * width, (length - height - place) * width))
            for height, conv in enumerate(convs, start=1)
            for place in range(length - height + 1)
        ]
        responses = (image.flatten(1) @ torch.cat(placed).T).split(
            [filters * (length - height) for height in range(length)], 1
        )
        # The bias, like relu, does not depend on the place: both can wait until the largest is found.
        tops = [response.view(len(image), -1, filters).amax(1) for response in responses]
        biases = torch.cat([conv.bias for conv in convs if conv.bias is not None])
        return (torch.cat(tops, 1) + biases).relu()

    def output_table(self) -> OutputTable:
        return OutputTable(self.out_weight, self.out_bias)

    def item_tables(self) -> list[Tensor]:
        """See ``Backbone.item_tables``: the input embeddings beside the output table."""
        return [self.items.weight, *super().item_tables()]
