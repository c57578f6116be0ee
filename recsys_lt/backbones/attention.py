"""Attention on packed histories: causal, where a window's pads count, or bidirectional, where they do not."""

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recsys_lt.backbones.layers import RowDropout
from recsys_lt.data.batch import Batch
from recsys_lt.native.functions import Histories, NativeAttention
from recsys_lt.native.library import kernels, usable

#: Events a row, on average, from which on matrix products are faster than the kernel.
_LONG = 64


class Rectangle(NamedTuple):
    """Rows of like length, g of them, each followed by other events up to the length of the longest of them, l."""

    rows: Tensor  # [g]
    events: Tensor  # places in the batch, [g, l]
    real: Tensor  # which of them are the row's own, [g, l] bool


class _Group(NamedTuple):
    """A rectangle of softmax attention, with one more key for all pads of a row."""

    queries: Tensor  # places among those that ask, [g, q]
    keys: Tensor  # events of the batch, [g, l + 1]; the pads' key is event T
    bias: Tensor  # added to the scores, [g, q, l + 1]


class Layout:
    """Where each event of a packed batch stands, counted from the end of a window of ``max_length``.

    Parameters
    ----------
    batch, max_length
        The histories, and L, the padded length.
    causal
        Whether an event attends to itself, earlier ones and the window's pads; else to all events of its row and to no
        pad.

    Attributes
    ----------
    pads, streams
        How many pads each event attends to, and its random stream, [T].
    position
        Place in the padded window: a row's last event always has the last one, [T].
    """

    def __init__(self, batch: Batch, max_length: int, causal: bool = True) -> None:
        if batch.lengths and max(batch.lengths) > max_length:
            raise ValueError(f"a history of {max(batch.lengths)} events, where {max_length} are read")
        self.batch, self.max_length, self.causal = batch, max_length, causal
        self.device = batch.items.device
        self.lengths = batch.offsets.diff()
        rows = batch.rows_of_events()
        place = torch.arange(len(batch.items), device=self.device) - batch.offsets[rows]
        before = max_length - self.lengths
        self.position = before[rows] + place
        self.pads_of_rows = before if causal else torch.zeros_like(before)
        self.pads = self.pads_of_rows[rows]
        self.streams = batch.event_streams()

    @cached_property
    def rectangles(self) -> list[Rectangle]:
        """The rows with events, grouped by length, so that long histories do not make short ones pay.

        Each group is as wide as its own longest row, at most twice its shortest.
        """
        lengths, found, low = torch.tensor(self.batch.lengths), [], 0
        while low < self.max_length:
            high = min(max(2 * low, 8), self.max_length)
            members = ((lengths > low) & (lengths <= high)).nonzero().squeeze(1)
            low = high
            if len(members):
                rows = members.to(self.device, non_blocking=True)
                columns = torch.arange(int(lengths[members].max()), device=self.device)
                # Beyond a row's end stands some event.
                events = (self.batch.offsets[rows].unsqueeze(1) + columns).clamp(max=len(self.batch.items) - 1)
                found.append(Rectangle(rows, events, columns < self.lengths[rows].unsqueeze(1)))
        if not found:  # no event: a process without a part of a batch still has gradients, of zero
            none = self.lengths.new_zeros(0, 1)
            found.append(Rectangle(none.flatten(), none, none.bool()))
        return found

    def every(self) -> "Queries":
        """All events ask."""
        return Queries(self, None)

    def last(self) -> "Queries":
        """The last event of each row asks."""
        return Queries(self, self.batch.offsets[1:] - 1)


class Queries:
    """Events of a packed batch that attend to their own rows.

    ``events`` are their places in the batch, one a row, [B]; None if every event asks.
    """

    def __init__(self, layout: Layout, events: Tensor | None) -> None:
        self.layout, self.events = layout, events
        self.streams = layout.streams if events is None else layout.streams[events]
        self.pads = layout.pads if events is None else layout.pads[events]

    @cached_property
    def asked(self) -> list[tuple[Tensor, Tensor]]:
        """Of each rectangle, the places of its queries [g, q], and which of the g * q are wanted, as places."""
        found = []
        for rows, events, real in self.layout.rectangles:
            queries = events if self.events is None else rows.unsqueeze(1)
            wanted = real if self.events is None else torch.ones_like(queries)
            found.append((queries, wanted.flatten().nonzero().squeeze(1)))
        return found

    @cached_property
    def _order(self) -> Tensor:
        return torch.cat([queries.flatten()[wanted] for queries, wanted in self.asked])

    def joined(self, answers: list[Tensor]) -> Tensor:
        """Answers to the queries of each rectangle, [g, q, ...] of d numbers each -> [Q, d]."""
        wanted = [
            answer.flatten(2).flatten(0, 1).index_select(0, places)
            for answer, (_, places) in zip(answers, self.asked, strict=True)
        ]
        together = torch.cat(wanted)
        return torch.empty_like(together).index_copy(0, self._order, together)

    @cached_property
    def groups(self) -> list[_Group]:
        """The layout's rectangles, for softmax attention."""
        pairs = zip(self.layout.rectangles, self.asked, strict=True)
        return [self._group(rectangle, queries) for rectangle, (queries, _) in pairs]

    def _group(self, rectangle: Rectangle, queries: Tensor) -> _Group:
        layout, (members, events, real) = self.layout, rectangle
        longest = events.shape[1]
        # An event beyond a row's end is hidden, as a key, from every real query; as a query its answer is dropped.
        if self.events is None and layout.causal:
            hidden = torch.full((longest, longest), -torch.inf, device=layout.device).triu_(1).unsqueeze(0)
        else:
            hidden = torch.zeros(real.shape, device=layout.device).masked_fill_(~real, -torch.inf).unsqueeze(1)
        hidden = hidden.expand(*queries.shape, longest)
        # All pads are one key with their number as its multiplicity, so log of it in its score.
        of_pads = layout.pads_of_rows[members].log().view(-1, 1, 1).expand(*queries.shape, 1)
        keys = torch.cat([events, events.new_full((len(members), 1), len(layout.batch.items))], 1)
        return _Group(queries, keys, torch.cat([hidden, of_pads], 2))


def split_heads(query: Tensor, key_value: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of each head: [..., d] and [..., 2d] -> three of [..., h, d / h]."""
    return query.unflatten(-1, (heads, -1)), *key_value.unflatten(-1, (2, heads, -1)).unbind(-3)


class Attention(nn.Module, ABC):
    """Attention of events to those of their rows that a layout lets them see, in windows of ``max_length``."""

    def __init__(self, heads: int, max_length: int, dropout: RowDropout) -> None:
        super().__init__()
        self.heads, self.max_length, self.dropout = heads, max_length, dropout

    @abstractmethod
    def forward(self, query: Tensor, key_value: Tensor, pad: Tensor, queries: Queries) -> Tensor:
        """Queries [Q, d], keys and values [T, 2d], and those of a pad [2d] -> [Q, d]."""

    @abstractmethod
    def padded(self, query: Tensor, key_value: Tensor, real: Tensor, causal: bool) -> Tensor:
        """``forward`` in a window without dropout: [B, L, d], [B, L, 2d], what is no pad [B, L] bool -> [B, L, d]."""


class HistoryAttention(Attention):
    """Softmax attention; ``dropout`` is of its weights."""

    def forward(self, query: Tensor, key_value: Tensor, pad: Tensor, queries: Queries) -> Tensor:
        """See ``Attention``."""
        layout = queries.layout
        short = len(key_value) <= _LONG * len(layout.batch)
        attend = self.by_kernel if short and layout.causal and usable(query, key_value, pad) else self.plain
        return attend(query, key_value, pad, queries)

    def by_kernel(self, query: Tensor, key_value: Tensor, pad: Tensor, queries: Queries) -> Tensor:
        """``plain`` by a compiled kernel, on a CPU in float32."""
        drop = self.dropout
        histories = Histories(
            offsets=queries.layout.batch.offsets,
            streams=queries.streams if drop.training and drop.cut else None,
            heads=self.heads,
            slots=self.max_length,
            last=queries.events is not None,
            salt=drop.salt,
            cut=drop.cut,
            scale=drop.scale,
        )
        return NativeAttention.apply(query, key_value, pad, histories, kernels())

    def plain(self, query: Tensor, key_value: Tensor, pad: Tensor, queries: Queries) -> Tensor:
        """Attention of those that ask to their rows' events and pads: [Q, d], [T, 2d] and [2d] -> [Q, d]."""
        key_value = torch.cat([key_value, pad.unsqueeze(0)])  # a pad is event T
        width, heads = query.shape[1], self.heads
        depth = width // heads
        kept, share = self._kept(queries)
        outputs = []
        for index, keys, bias in queries.groups:
            (g, n_queries), n_keys, index = index.shape, keys.shape[1], index.flatten()
            q = query.index_select(0, index).view(g, n_queries, heads, depth).transpose(1, 2).flatten(0, 1)
            kv = key_value.index_select(0, keys.flatten()).view(g, n_keys, 2, heads, depth)
            k, v = kv.permute(2, 0, 3, 1, 4).flatten(1, 2).unbind(0)
            if heads > 1:
                bias = bias.repeat_interleave(heads, 0)
            scores = torch.baddbmm(bias.to(q.dtype), q, k.transpose(1, 2), alpha=1 / math.sqrt(depth))
            attention = scores.softmax(2)
            if kept is not None and share is not None:
                # Real keys take a query's first slots, pads its last ones; a pad's weight is their mean.
                bits = kept[:, :, : n_keys - 1].index_select(0, index).to(q.dtype)
                factor = torch.cat([bits, share.index_select(0, index).to(q.dtype)], 2)
                factor = factor.view(g, n_queries, heads, n_keys).transpose(1, 2).flatten(0, 1)
                attention = attention * factor.mul_(self.dropout.scale)
            outputs.append(torch.bmm(attention, v).view(g, heads, n_queries, depth).transpose(1, 2))
        return queries.joined(outputs)

    def padded(self, query: Tensor, key_value: Tensor, real: Tensor, causal: bool) -> Tensor:
        """See ``Attention``; the window's pads are attended to where attention is causal, as in a packed batch."""
        q, k, v = (x.transpose(1, 2) for x in split_heads(query, key_value, self.heads))
        allowed = real.new_ones(real.shape[1], real.shape[1]).tril() if causal else real[:, None, None]
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        return (scores.masked_fill(~allowed, -math.inf).softmax(3) @ v).transpose(1, 2).reshape(query.shape)

    def _kept(self, queries: Queries) -> tuple[Tensor | None, Tensor | None]:
        """Which of the L slots of each query survive, [Q, h, L], and the share of its pads that do, [Q, h, 1]."""
        if not self.dropout.training or self.dropout.cut == 0:
            return None, None
        kept = self.dropout.kept(self.heads * self.max_length, queries.streams)
        kept = kept.view(-1, self.heads, self.max_length)
        slots = torch.arange(self.max_length, device=kept.device)
        of_pads = (slots >= self.max_length - queries.pads.unsqueeze(1)).unsqueeze(1)
        return kept, (kept & of_pads).sum(2, keepdim=True) / queries.pads.clamp(min=1).view(-1, 1, 1)
