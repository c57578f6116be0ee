"""GRU4Rec: a recurrent network over each prefix."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from recsys_lt.backbones.backbone import Backbone, DataFacts
from recsys_lt.backbones.dropout import RowDropout, event_streams
from recsys_lt.data.batch import Batch
from recsys_lt.data.rows import Prefixes
from recsys_lt.errors import UserError
from recsys_lt.output_table import OutputTable


class GRU4Rec(Backbone):
    """A GRU over item embeddings, read after the last event; scored with the embeddings themselves.

    Source: Hidasi et al., ICLR 2016, as trained in MTandHJ/CE-SCE-LLMRec: every prefix is a row, and
    between the embeddings and the scores stand one dropout, the GRU without bias, and one linear map.

    Parameters
    ----------
    facts
        Sizes of the data.
    width
        Width d of embeddings, hidden state and states.
    layers
        Stacked GRU layers.
    max_length
        Latest events read.
    dropout
        Dropout of the embeddings, event by event.
    """

    def __init__(
        self,
        facts: DataFacts,
        *,
        width: int = 64,
        layers: int = 1,
        max_length: int = 50,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if min(width, layers, max_length) < 1:
            raise UserError(
                f"GRU4Rec has width {width}, layers {layers}, max_length {max_length}",
                where="model",
                remedy="Each must be at least 1",
            )
        self.max_length = max_length
        self.row_plan = Prefixes(max_length)
        self.items = nn.Embedding(facts.n_items, width)
        self.dropout = RowDropout(dropout, salt=0)
        self.gru = nn.GRU(width, width, layers, bias=False)
        self.dense = nn.Linear(width, width)
        nn.init.xavier_normal_(self.items.weight)
        for weight in self.gru.parameters():
            nn.init.xavier_uniform_(weight)

    def states(self, batch: Batch) -> Tensor:
        """[B, d]."""
        return self.user_states(batch)

    def user_states(self, batch: Batch) -> Tensor:
        """[B, d]."""
        order, row_rank, running = _time_major(batch)
        x = self.dropout(self.items(batch.items[order]), event_streams(batch)[order])
        # The packed form lets a row leave the recurrence at its end: no work on padding, and one cuDNN call.
        hidden = x.new_zeros(len(batch), x.shape[1])  # that of a row without history
        if len(x):
            _, last = self.gru(PackedSequence(x, running))
            hidden = torch.cat([last[-1], hidden[last.shape[1] :]])
        states: Tensor = self.dense(hidden[row_rank])
        return states

    def output_table(self) -> OutputTable:
        """[I, d], the input embeddings."""
        return OutputTable(self.items.weight)


def _time_major(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """How to lay a batch out step by step, longest row first.

    Returns
    -------
    order
        The events, first those of step 0, then of step 1, ..., [T] int64.
    row_rank
        Each row's place among the rows by falling length, [B] int64.
    running
        How many rows reach each step, [longest] int64; on the host, where the GRU wants it.
    """
    row_rank = batch.offsets.diff().argsort(descending=True, stable=True).argsort()
    rows = batch.rows_of_events()
    step = torch.arange(len(rows), device=rows.device) - batch.offsets[rows]
    order = (step * len(batch) + row_rank[rows]).argsort()
    ended = torch.bincount(torch.tensor(batch.lengths)).cumsum(0)[:-1]
    return order, row_rank, len(batch) - ended
