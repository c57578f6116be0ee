"""SASRec as in the CE/SCE reference runs, on packed histories."""

import math
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lt.backbones.attention import Attention, HistoryAttention, Layout, Queries
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

    Parameters
    ----------
    facts, width, blocks, heads, max_length, tied
        See ``Backbone``.
    dropout
        Of embeddings, attention weights and feed-forward alike.
    gated
        Whether blocks are those of LiGR (eSASRec), with gates and SwiGLU; else those of the reference.

    References
    ----------
    Kang & McAuley, ICDM 2018; residuals and initialisation of MTandHJ/CE-SCE-LLMRec (the residual goes
    round the normalised query to x, and the feed-forward residual adds the normalised x). Without ``tied``, gSASRec:
    Petrov & Macdonald, RecSys 2023. LiGR: Borisyuk et al., arXiv 2502.03417, in the form of eSASRec
    (blondered/transformer_benchmark), whose input is not scaled as here.
    """

    #: How events attend to each other.
    attention: ClassVar[type[Attention]] = HistoryAttention

    def __init__(
        self,
        facts: DataFacts,
        *,
        width: int,
        blocks: int,
        heads: int,
        max_length: int,
        dropout: float,
        tied: bool = True,
        gated: bool = False,
    ) -> None:
        # It may have no block.
        super().__init__(width=width, blocks=blocks or 1, heads=heads, max_length=max_length)
        self.max_length = max_length
        self.task = EveryPosition(max_length)
        self.items = nn.Embedding(facts.n_items, width)
        self.positions = nn.Embedding(max_length, width)
        self.dropout = RowDropout(dropout, salt=0)
        kind = GatedBlock if gated else _Block
        self.blocks = nn.ModuleList(
            kind(
                width, self.attention(heads, max_length, RowDropout(dropout, 1 + 3 * b)), dropout, first_salt=2 + 3 * b
            )
            for b in range(blocks)
        )
        self.norm = nn.LayerNorm(width, eps=1e-8)
        self.output = None if tied else nn.Embedding(facts.n_items, width)
        for table in (self.items, self.positions, self.output):
            if table is not None:
                nn.init.xavier_normal_(table.weight)

    def output_table(self) -> OutputTable:
        return OutputTable((self.output or self.items).weight)

    def item_tables(self) -> list[Tensor]:
        """See ``Backbone.item_tables``."""
        return [table.weight for table in (self.items, self.output) if table is not None]

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
            assert isinstance(block, _Block | GatedBlock)
            x = block.padded(x * real.unsqueeze(2), real)
        return self.norm(x[:, -1])

    def _embedded(self, batch: Batch, layout: "Layout") -> Tensor:
        x = self.items(batch.items) * math.sqrt(self.items.embedding_dim) + self.positions(layout.position)
        return self.dropout(x, layout.streams)


class _Block(nn.Module):
    """The reference's block; two dropout salts from ``first_salt`` on."""

    def __init__(self, width: int, attend: Attention, dropout: float, first_salt: int) -> None:
        super().__init__()
        self.norm_query = nn.LayerNorm(width, eps=1e-8)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-8)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.attend = attend
        self.drop_inner = RowDropout(dropout, first_salt)
        self.drop_outer = RowDropout(dropout, first_salt + 1)
        _initialise_attention(self)

    def forward(self, x: Tensor, queries: Queries) -> Tensor:
        """All events [T, d] -> those that ask, [Q, d]."""
        own = x if queries.events is None else x[queries.events]
        query, key_value = self.query(self.norm_query(own)), self.key_value(x)
        # A pad is a zero vector: its key and value are the biases.
        own = self.norm(self.out(self.attend(query, key_value, self.key_value.bias, queries)) + own)
        inner = self.drop_inner.relu(self.inner(own), queries.streams)
        return own + self.drop_outer(self.outer(inner), queries.streams)

    def padded(self, x: Tensor, real: Tensor) -> Tensor:
        """``forward`` in a window [B, L, d] whose pads, all but ``real`` [B, L], are zero vectors, without dropout."""
        attended = self.attend.padded(self.query(self.norm_query(x)), self.key_value(x), real, causal=True)
        x = self.norm(self.out(attended) + x)
        return x + self.outer(self.inner(x).relu())


class GatedBlock(nn.Module):
    """LiGR's block: x <- x + sigmoid(W x) * drop(f(LN(x))), with f first attention and then SwiGLU of width 4d.

    Two dropout salts from ``first_salt`` on.
    """

    def __init__(self, width: int, attend: Attention, dropout: float, first_salt: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_hidden = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.gate_attention, self.gate_hidden = nn.Linear(width, width), nn.Linear(width, width)
        self.inner = nn.Linear(width, 8 * width, bias=False)  # SwiGLU's two factors side by side
        self.outer = nn.Linear(4 * width, width, bias=False)
        self.attend = attend
        self.drop_attention = RowDropout(dropout, first_salt)
        self.drop_hidden = RowDropout(dropout, first_salt + 1)
        _initialise_attention(self)

    def forward(self, x: Tensor, queries: Queries) -> Tensor:
        """All events [T, d] -> those that ask, [Q, d]."""
        normed = self.norm_attention(x)
        own, asking = (x, normed) if queries.events is None else (x[queries.events], normed[queries.events])
        # A pad is a zero vector: normalised it is the bias.
        pad = self.key_value(self.norm_attention.bias)
        y = self.out(self.attend(self.query(asking), self.key_value(normed), pad, queries))
        own = own + self.gate_attention(own).sigmoid() * self.drop_attention(y, queries.streams)
        return own + self.gate_hidden(own).sigmoid() * self.drop_hidden(self._hidden(own), queries.streams)

    def padded(self, x: Tensor, real: Tensor) -> Tensor:
        """``forward`` in a window [B, L, d] whose pads, all but ``real`` [B, L], are zero vectors, without dropout."""
        normed = self.norm_attention(x)
        y = self.out(self.attend.padded(self.query(normed), self.key_value(normed), real, causal=True))
        x = x + self.gate_attention(x).sigmoid() * y
        return x + self.gate_hidden(x).sigmoid() * self._hidden(x)

    def _hidden(self, x: Tensor) -> Tensor:
        gate, value = self.inner(self.norm_hidden(x)).chunk(2, -1)
        return self.outer(F.silu(gate) * value)


def _initialise_attention(block: _Block | GatedBlock) -> None:
    # The reference's nn.MultiheadAttention: one Xavier-uniform matrix [3d, d] for the three projections,
    # Xavier-normal for its output; the feed-forward keeps PyTorch's default.
    width = block.query.in_features
    bound = math.sqrt(6 / (width + 3 * width))
    for projection in (block.query, block.key_value):
        nn.init.uniform_(projection.weight, -bound, bound)
        nn.init.zeros_(projection.bias)
    nn.init.xavier_normal_(block.out.weight)
    nn.init.zeros_(block.out.bias)
