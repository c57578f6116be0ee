"""Caser: convolutions over the latest few items, and the user's own vector."""

import torch
from torch import Tensor, nn

from recsys_lt.backbones.backbone import Backbone, DataFacts
from recsys_lt.backbones.dropout import RowDropout, row_streams
from recsys_lt.backbones.padding import PaddedItems
from recsys_lt.data.batch import Batch
from recsys_lt.data.rows import Prefixes
from recsys_lt.errors import UserError
from recsys_lt.output_table import OutputTable


class Caser(Backbone):
    """The last L items as an image [L, d], convolved along and across time, beside a user embedding.

    Source: Tang & Wang, WSDM 2018, as trained in MTandHJ/CE-SCE-LLMRec. States are 2d wide: d of the
    convolutions and d of the user. They are scored with a table and bias of their own.

    Parameters
    ----------
    facts
        Sizes of the data; a user embedding is kept for each of ``n_users``.
    width
        Width d of item and user embeddings.
    max_length
        Latest events read, L; short histories are padded on the left.
    vertical
        Filters along time: each a weighted sum of the L items, for every coordinate.
    horizontal
        Filters across coordinates, for each height 1..L, each max-pooled over time.
    dropout
        Dropout of the convolutions' features.
    """

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
        super().__init__()
        if min(width, max_length, vertical, horizontal) < 1:
            raise UserError(
                f"Caser has width {width}, max_length {max_length}, vertical {vertical}, horizontal {horizontal}",
                where="model",
                remedy="Each must be at least 1",
            )
        self.max_length = max_length
        # A prefix fills the window together with its target, as in the reference: 4 items in, 1 to predict.
        self.row_plan = Prefixes(max_length, min_length=max(max_length, 2))
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

    def states(self, batch: Batch) -> Tensor:
        """[B, 2d]."""
        return self.user_states(batch)

    def user_states(self, batch: Batch) -> Tensor:
        """[B, 2d]."""
        image = self.items(batch, self.max_length).unsqueeze(1)  # [B, 1, L, d]
        features = [self.vertical(image).flatten(1)]
        features += [conv(image).squeeze(3).relu().amax(2) for conv in self.horizontal]
        history = self.dense(self.dropout(torch.cat(features, 1), row_streams(batch))).relu()
        return torch.cat([history, self.users(batch.users)], 1)

    def output_table(self) -> OutputTable:
        """[I, 2d] and its bias [I]."""
        return OutputTable(self.out_weight, self.out_bias)
