"""SASRec as in the CE/SCE reference runs, on packed histories."""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lt.backbones.backbone import Backbone, DataFacts
from recsys_lt.backbones.dropout import RowDropout, event_streams
from recsys_lt.data.batch import Batch
from recsys_lt.data.rows import EveryPosition
from recsys_lt.errors import UserError
from recsys_lt.output_table import OutputTable


class SASRec(Backbone):
    """Causal self-attention over a user's events, supervised at every position.

    The reference pads every history on the left to ``max_length`` and lets the pads take part in the attention
    (zero vectors, whose keys and values are the projections' biases). Eight of nine positions of a padded
    Amazon batch are pads; here they are never computed. All of a row's pads share one key and one value, so
    they enter the softmax as one extra term with their number as its multiplicity: the same function.

    Parameters
    ----------
    facts
        Sizes of the data.
    width
        d, width of embeddings and states.
    blocks
        Attention blocks.
    heads
        Attention heads; must divide ``width``.
    max_length
        L, latest events read.
    dropout
        Probability, for embeddings, attention weights and feed-forward alike.

    References
    ----------
    Kang & McAuley, ICDM 2018; residuals and initialisation of MTandHJ/CE-SCE-LLMRec (the residual goes
    round the normalised query to x, and the feed-forward residual adds the normalised x).
    """

    def __init__(
        self, facts: DataFacts, *, width: int, blocks: int, heads: int, max_length: int, dropout: float
    ) -> None:
        super().__init__()
        if max_length < 1 or width < 1 or heads < 1 or blocks < 0 or width % heads:
            raise UserError(
                f"width {width}, heads {heads}, blocks {blocks}, max_length {max_length} make no SASRec",
                where="model",
                remedy="heads must divide width, and lengths must be positive",
            )
        self.max_length = max_length
        self.row_plan = EveryPosition(max_length)
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
        layout = _Layout(batch, self.max_length)
        x = self._embedded(batch, layout)
        for block in self.blocks:
            x = block(x, layout.every)
        states: Tensor = self.norm(x)
        return states

    def user_states(self, batch: Batch) -> Tensor:
        layout = _Layout(batch, self.max_length)
        x = self._embedded(batch, layout)
        for block in self.blocks[:-1]:
            x = block(x, layout.every)
        # What is read is the last event of each row: the last block need not compute the others.
        for block in self.blocks[-1:]:
            x = block(x, layout.last)
        states: Tensor = self.norm(x if self.blocks else x[batch.offsets[1:] - 1])
        return states

    def _embedded(self, batch: Batch, layout: "_Layout") -> Tensor:
        x = self.items(batch.items) * math.sqrt(self.items.embedding_dim) + self.positions(layout.position)
        embedded: Tensor = self.dropout(x, layout.every.streams)
        return embedded


class _Group(NamedTuple):
    """Rows of like length, g of them, padded to the longest of them, l, with one more key for all their pads.

    ``queries`` [g * q] are places among those that ask, ``keys`` [g * (l + 1)] events of the batch (the pads'
    key is event T); ``bias`` [g, q, l + 1] is added to the scores; ``real`` are the places in ``queries`` whose
    answers are wanted.
    """

    rows: int
    queries: Tensor
    keys: Tensor
    bias: Tensor
    real: Tensor


class _Queries(NamedTuple):
    """Which events of the batch ask: all of them, or the last of each row.

    ``events`` are their places in the batch (None for all), ``streams`` their random streams, ``pads`` how many
    pads stand before each; the groups' outputs, end to end, are put in order by ``order``.
    """

    events: Tensor | None
    streams: Tensor
    pads: Tensor
    groups: list[_Group]
    order: Tensor


class _Layout:
    """Where each event of a packed batch stands: its position, and its attention group.

    Attention needs rectangles. Rows are grouped by length (each group padded to its own longest row, at
    most twice its shortest), so that long histories do not make short ones pay.
    """

    def __init__(self, batch: Batch, max_length: int) -> None:
        self.batch, self.max_length = batch, max_length
        self.device = batch.items.device
        self.lengths = batch.offsets.diff()
        rows = batch.rows_of_events()
        place = torch.arange(len(batch.items), device=self.device) - batch.offsets[rows]
        self.pads = max_length - self.lengths[rows]
        # Positions are counted over the padded window: the last event always has the last one.
        self.position = self.pads + place
        self.streams = event_streams(batch)

    def _members(self) -> Iterator[tuple[Tensor, int]]:
        """Rows of each group, and the length of its longest."""
        host = torch.tensor(self.batch.lengths)
        low = 0
        while low < self.max_length:
            high = min(max(2 * low, 8), self.max_length)
            members = ((host > low) & (host <= high)).nonzero().squeeze(1)
            low = high
            if len(members):
                yield members.to(self.device, non_blocking=True), int(host[members].max())

    @cached_property
    def every(self) -> _Queries:
        """Every event asks, those after it left out."""
        groups, order = [], []
        for members, longest in self._members():
            columns = torch.arange(longest, device=self.device)
            index = self.batch.offsets[members].unsqueeze(1) + columns
            real = columns < self.lengths[members].unsqueeze(1)
            order.append(index[real])
            # Beyond a row's end stands some event: as a key it lies in every real query's future, as a
            # query its answer is dropped.
            index = index.clamp_(max=len(self.batch.items) - 1)
            future = torch.full((longest, longest), -torch.inf, device=self.device).triu_(1)
            bias = self._bias(members, future.expand(len(members), -1, -1))
            groups.append(_Group(len(members), index.flatten(), self._keys(index), bias, _places(real.flatten())))
        return _Queries(None, self.streams, self.pads, groups, torch.cat(order))

    @cached_property
    def last(self) -> _Queries:
        """The last event of each row asks: it sees all of them."""
        groups, order = [], []
        last = self.batch.offsets[1:] - 1
        for members, longest in self._members():
            columns = torch.arange(longest, device=self.device)
            index = self.batch.offsets[members].unsqueeze(1) + columns
            beyond = columns >= self.lengths[members].unsqueeze(1)
            bias = torch.zeros(index.shape, device=self.device).masked_fill_(beyond, -torch.inf)
            index = index.clamp_(max=len(self.batch.items) - 1)
            every = torch.arange(len(members), device=self.device)
            groups.append(
                _Group(len(members), members, self._keys(index), self._bias(members, bias.unsqueeze(1)), every)
            )
            order.append(members)
        return _Queries(last, self.streams[last], self.pads[last], groups, torch.cat(order))

    def _keys(self, index: Tensor) -> Tensor:
        pads = index.new_full((len(index), 1), len(self.batch.items))
        return torch.cat([index, pads], 1).flatten()

    def _bias(self, members: Tensor, of_events: Tensor) -> Tensor:
        """Join a last column: one key of all pads has their number as its multiplicity, so log of it in its score."""
        number = (self.max_length - self.lengths[members]).log().view(-1, 1, 1)
        return torch.cat([of_events, number.expand(-1, of_events.shape[1], 1)], 2)


def _places(mask: Tensor) -> Tensor:
    return mask.nonzero().squeeze(1)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, max_length: int, dropout: float, first_salt: int) -> None:
        super().__init__()
        self.heads = heads
        self.max_length = max_length
        self.norm_query = nn.LayerNorm(width, eps=1e-8)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-8)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.drop_attention = RowDropout(dropout, first_salt)
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

    def forward(self, x: Tensor, queries: _Queries) -> Tensor:
        """All events [T, d] -> those that ask, [Q, d]."""
        own = x if queries.events is None else x[queries.events]
        # A pad is a zero vector: its key and value are the biases, here as event T.
        key_value = torch.cat([self.key_value(x), self.key_value.bias.unsqueeze(0)])
        own = self.out(self._attend(self.query(self.norm_query(own)), key_value, queries)) + own
        own = self.norm(own)
        inner = self.drop_inner(F.relu(self.inner(own)), queries.streams)
        answer: Tensor = own + self.drop_outer(self.outer(inner), queries.streams)
        return answer

    def _attend(self, query: Tensor, key_value: Tensor, queries: _Queries) -> Tensor:
        """Attention of those that ask to their rows' events and pads: [Q, d] and [T + 1, 2d] -> [Q, d]."""
        width, heads = query.shape[1], self.heads
        depth = width // heads
        kept, share = self._kept(queries)
        outputs = []
        for g, index, keys, bias, real in queries.groups:
            n_keys = bias.shape[2]
            q = query.index_select(0, index).view(g, -1, heads, depth).transpose(1, 2).flatten(0, 1)
            kv = key_value.index_select(0, keys).view(g, n_keys, 2, heads, depth)
            k, v = kv.permute(2, 0, 3, 1, 4).flatten(1, 2).unbind(0)
            if heads > 1:
                bias = bias.repeat_interleave(heads, 0)
            scores = torch.baddbmm(bias.to(q.dtype), q, k.transpose(1, 2), alpha=1 / math.sqrt(depth))
            attention = scores.softmax(2)
            if kept is not None and share is not None:
                # Real keys take a query's first slots, pads its last ones; a pad's weight is their mean.
                bits = kept[:, :, : n_keys - 1].index_select(0, index).to(q.dtype)
                factor = torch.cat([bits, share.index_select(0, index).to(q.dtype)], 2)
                factor = factor.view(g, -1, heads, n_keys).transpose(1, 2).flatten(0, 1)
                attention = attention * factor.mul_(self.drop_attention.scale)
            out = torch.bmm(attention, v).view(g, heads, -1, depth).transpose(1, 2).reshape(-1, width)
            outputs.append(out.index_select(0, real))
        joined = torch.cat(outputs)
        return torch.empty_like(joined).index_copy(0, queries.order, joined)

    def _kept(self, queries: _Queries) -> tuple[Tensor | None, Tensor | None]:
        """Which of the L slots of each query survive, [Q, h, L], and the share of its pads that do, [Q, h, 1]."""
        if not self.drop_attention.training or self.drop_attention.p == 0:
            return None, None
        kept = self.drop_attention.kept(self.heads * self.max_length, queries.streams)
        kept = kept.view(-1, self.heads, self.max_length)
        slots = torch.arange(self.max_length, device=kept.device)
        of_pads = (slots >= self.max_length - queries.pads.unsqueeze(1)).unsqueeze(1)
        return kept, (kept & of_pads).sum(2, keepdim=True) / queries.pads.clamp(min=1).view(-1, 1, 1)
