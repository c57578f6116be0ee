"""SASRec as in the CE/SCE reference runs, on packed histories."""

import math

import torch
from torch import Tensor, nn

from recsys_lt.backbones.attention import HistoryAttention, Layout, Queries, padded_attention
from recsys_lt.backbones.backbone import Backbone
from recsys_lt.backbones.layers import RowDropout
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.tasks.next_item import EveryPosition
from recsys_lt.losses.output_table import OutputTable


class SASRec(Backbone):
    """Causal self-attention over a user's events, supervised at every position.

    The reference pads every history on the left to ``max_length`` and lets the pads take part in the attention
    (zero vectors, whose keys and values are the projections' biases). Eight of nine positions of a padded
    Amazon batch are pads; here they are never computed. All of a row's pads share one key and one value, so
    they enter the softmax as one extra term with their number as its multiplicity: the same function.

    Parameters: see ``Backbone``. Dropout is of embeddings, attention weights and feed-forward alike.

    References
    ----------
    Kang & McAuley, ICDM 2018; residuals and initialisation of MTandHJ/CE-SCE-LLMRec (the residual goes
    round the normalised query to x, and the feed-forward residual adds the normalised x).
    """

    def __init__(
        self, facts: DataFacts, *, width: int, blocks: int, heads: int, max_length: int, dropout: float
    ) -> None:
        # It may have no block.
        super().__init__(width=width, blocks=blocks or 1, heads=heads, max_length=max_length)
        self.max_length = max_length
        self.task = EveryPosition(max_length)
        self.items = nn.Embedding(facts.n_items, width)
        self.positions = nn.Embedding(max_length, width)
        self.dropout = RowDropout(dropout, salt=0)
        self.blocks = nn.ModuleList(
            _Block(width, heads, max_length, dropout, first_salt=1 + 3 * b) for b in range(blocks)
        )
        self.norm = nn.LayerNorm(width, eps=1e-8)
        for table in (self.items, self.positions):
            nn.init.xavier_normal_(table.weight)

    def output_table(self) -> OutputTable:
        return OutputTable(self.items.weight)

    def states(self, batch: Batch) -> Tensor:
        layout = Layout(batch, self.max_length)
        x = self._embedded(batch, layout)
        every = layout.every()
        for block in self.blocks:
            x = block(x, every)
        return self.norm(x)

    def user_states(self, batch: Batch) -> Tensor:
        layout = Layout(batch, self.max_length)
        x = self._embedded(batch, layout)
        every, last = layout.every(), layout.last()
        for block in self.blocks[:-1]:
            x = block(x, every)
        # What is read is the last event of each row: the last block need not compute the others.
        for block in self.blocks[-1:]:
            x = block(x, last)
        return self.norm(x if self.blocks else x[batch.offsets[1:] - 1])

    def padded_states(self, items: Tensor, real: Tensor) -> Tensor:
        """See ``Backbone.padded_states``."""
        x = self.items(items) * math.sqrt(self.items.embedding_dim) + self.positions.weight
        for block in self.blocks:
            assert isinstance(block, _Block)
            x = block.padded(x * real.unsqueeze(2))
        return self.norm(x[:, -1])

    def _embedded(self, batch: Batch, layout: "Layout") -> Tensor:
        x = self.items(batch.items) * math.sqrt(self.items.embedding_dim) + self.positions(layout.position)
        return self.dropout(x, layout.streams)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, max_length: int, dropout: float, first_salt: int) -> None:
        super().__init__()
        self.norm_query = nn.LayerNorm(width, eps=1e-8)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-8)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.attend = HistoryAttention(heads, max_length, RowDropout(dropout, first_salt))
        self.drop_inner = RowDropout(dropout, first_salt + 1)
        self.drop_outer = RowDropout(dropout, first_salt + 2)
        # The reference's nn.MultiheadAttention: one Xavier-uniform matrix [3d, d] for the three projections,
        # Xavier-normal for its output; the feed-forward keeps PyTorch's default.
        bound = math.sqrt(6 / (width + 3 * width))
        for projection in (self.query, self.key_value):
            nn.init.uniform_(projection.weight, -bound, bound)
            nn.init.zeros_(projection.bias)
        nn.init.xavier_normal_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, queries: Queries) -> Tensor:
        """All events [T, d] -> those that ask, [Q, d]."""
        own = x if queries.events is None else x[queries.events]
        query, key_value = self.query(self.norm_query(own)), self.key_value(x)
        # A pad is a zero vector: its key and value are the biases.
        own = self.norm(self.out(self.attend(query, key_value, self.key_value.bias, queries)) + own)
        inner = self.drop_inner.relu(self.inner(own), queries.streams)
        return own + self.drop_outer(self.outer(inner), queries.streams)

    def padded(self, x: Tensor) -> Tensor:
        """``forward`` in a window [B, L, d] whose pads are zero vectors, without dropout."""
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        attended = padded_attention(self.query(self.norm_query(x)), self.key_value(x), self.attend.heads, causal)
        x = self.norm(self.out(attended) + x)
        return x + self.outer(self.inner(x).relu())
