"""BERT4Rec: a bidirectional transformer that fills in masked items."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from recsys_lt.backbones.attention import Attention, HistoryAttention, Layout, Queries
from recsys_lt.backbones.backbone import Backbone
from recsys_lt.backbones.layers import RowDropout
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.tasks.masked_items import MaskedItems
from recsys_lt.errors import UserError
from recsys_lt.losses.output_table import OutputTable


class BERT4Rec(Backbone):
    """Bidirectional self-attention over a history with masked items, each predicted from all others.

    When ranking, a masked item follows the history. The encoder is that of ``nn.TransformerEncoder`` (normalisation
    after each residual sum, GELU, dropout inside the MLP too), on packed histories: pads are neither computed nor
    attended to. Only masked items reach the last feed-forward. States are scored against the item embeddings.

    Parameters
    ----------
    facts, width, blocks, heads, dropout, tied
        See ``Backbone``.
    max_length
        L, latest items read, the masked ones included: ``max_length - 1`` items of a history when ranking.
    mask_probability
        Of an item to be masked in training.
    mask_last
        Probability that the last item of a training history alone is masked, as when ranking.

    References
    ----------
    Sun et al., CIKM 2019, in the form of arXiv 2402.06216 (repository MTandHJ/CE-SCE-LLMRec): no transform or bias
    before the scores, initial weights as there. Unlike there, an example without a mask gets one.
    """

    #: How events attend to each other.
    attention: ClassVar[type[Attention]] = HistoryAttention

    def __init__(
        self,
        facts: DataFacts,
        *,
        width: int = 64,
        blocks: int = 2,
        heads: int = 4,
        max_length: int = 50,
        dropout: float = 0.2,
        mask_probability: float = 0.2,
        mask_last: float = 0.1,
        tied: bool = True,
    ) -> None:
        super().__init__(width=width, blocks=blocks, heads=heads)
        if max_length < 2:
            what = f"{type(self).__name__} has max_length {max_length}"
            remedy = "Give at least 2: an item and the masked one after it"
            raise UserError(what, where="model", remedy=remedy)
        self.max_length, self._window = max_length - 1, max_length
        self.task = MaskedItems(max_length, mask_probability, mask_last)
        self.items = nn.Embedding(facts.n_items, width)
        self.output = None if tied else nn.Embedding(facts.n_items, width)
        self.mask = nn.Parameter(torch.empty(width))
        self.positions = nn.Embedding(max_length, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = RowDropout(dropout, salt=0)
        self.blocks = nn.ModuleList(
            _Block(width, self.attention(heads, max_length, RowDropout(dropout, 1 + 4 * block)), dropout, 2 + 4 * block)
            for block in range(blocks)
        )
        self._initialise()

    def _initialise(self) -> None:
        # Of the published code: attention's projections are as nn.MultiheadAttention makes them, all else is small.
        # Small projections there, as in Google's BERT, leave a high learning rate at the popularity of items.
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.xavier_normal_(module.weight)
                module.weight.data.clamp_(-0.02, 0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.mask, std=0.02, a=-0.02, b=0.02)
        for block in self.blocks:
            assert isinstance(block, _Block)
            bound = (6 / (4 * block.query.in_features)) ** 0.5  # xavier_uniform of query, key and value as one matrix
            for projection in (block.query, block.key_value):
                nn.init.uniform_(projection.weight, -bound, bound)

    def output_table(self) -> OutputTable:
        return OutputTable((self.output or self.items).weight)

    def item_tables(self) -> list[Tensor]:
        """See ``Backbone.item_tables``."""
        return [table.weight for table in (self.items, self.output) if table is not None]

    def states(self, batch: Batch) -> Tensor:
        """[N, d]: at the masked events."""
        assert batch.target_events is not None
        return self._encoded(batch, batch.target_events)

    def user_states(self, batch: Batch) -> Tensor:
        """[B, d]: at a masked event after each history."""
        device = batch.items.device
        items = torch.full((len(batch.items) + len(batch),), self.items.num_embeddings, device=device)
        items[torch.arange(len(batch.items), device=device) + batch.rows_of_events()] = batch.items
        offsets = batch.offsets + torch.arange(len(batch) + 1, device=device)
        closed = replace(batch, items=items, offsets=offsets, lengths=tuple(n + 1 for n in batch.lengths))
        return self._encoded(closed, offsets[1:] - 1)

    def padded_states(self, items: Tensor, real: Tensor) -> Tensor:
        """See ``Backbone.padded_states``; the masked event is added at the end."""
        x = torch.cat([self.items(items), self.mask.expand(items.shape[0], 1, -1)], 1)
        x = self.norm(x + self.positions.weight)
        real = nn.functional.pad(real, (0, 1), value=True)
        for block in self.blocks:
            assert isinstance(block, _Block)
            x = block.padded(x, real)
        return x[:, -1]

    def _encoded(self, batch: Batch, at: Tensor) -> Tensor:
        """States at the events ``at`` [n], which alone are computed in the last block -> [n, d]."""
        layout = Layout(batch, self._window, causal=False)
        known = (batch.items < self.items.num_embeddings).nonzero().squeeze(1)
        x = self.mask.expand(len(batch.items), -1).index_copy(0, known, self.items(batch.items[known]))
        x = self.dropout(self.norm(x + self.positions(layout.position)), layout.streams)
        every = layout.every()
        for block in self.blocks[:-1]:
            x = block(x, every, None)
        return self.blocks[-1](x, every, at)


class _Block(nn.Module):
    """x <- LN(x + drop(attention(x))), then x <- LN(x + drop(MLP(x))); three dropout salts from ``first_salt`` on."""

    def __init__(self, width: int, attend: Attention, dropout: float, first_salt: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.attend = attend
        self.out = nn.Linear(width, width)
        self.attention_dropout = RowDropout(dropout, first_salt)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.hidden_dropout = RowDropout(dropout, first_salt + 1)
        self.mlp_dropout = RowDropout(dropout, first_salt + 2)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, every: Queries, at: Tensor | None) -> Tensor:
        """All events [T, d] -> all of them, or those ``at`` [n] places, [n, d]."""
        y, streams = self.attend(self.query(x), self.key_value(x), self.key_value.bias, every), every.streams
        if at is not None:
            x, y, streams = x[at], y[at], streams[at]
        x = self.attention_norm(x + self.attention_dropout(self.out(y), streams))
        inner, activation, outer = self.mlp
        hidden = self.hidden_dropout(activation(inner(x)), streams)
        return self.mlp_norm(x + self.mlp_dropout(outer(hidden), streams))

    def padded(self, x: Tensor, real: Tensor) -> Tensor:
        """``forward`` in a window [B, L, d], of which the places ``real`` [B, L] are no pads, without dropout."""
        y = self.attend.padded(self.query(x), self.key_value(x), real, causal=False)
        x = self.attention_norm(x + self.out(y))
        return self.mlp_norm(x + self.mlp(x))
