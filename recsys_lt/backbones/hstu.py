"""HSTU: pointwise attention with gates, supervised at every position."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lt.backbones.attention import Layout, Queries
from recsys_lt.backbones.backbone import Backbone
from recsys_lt.backbones.layers import RowDropout
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.tasks.next_item import EveryPosition
from recsys_lt.errors import UserError
from recsys_lt.losses.output_table import OutputTable

# Two events t seconds apart are in bucket log(t) / 0.301, or in the last one.
_LAST_BUCKET, _BUCKET = 128, 0.301


class HSTU(Backbone):
    """Causal attention with SiLU in the place of the softmax, gated, without a feed-forward; scored by cosines.

    A weight is silu(q . k + b) / L, with a learned b for each distance between two events. Pads of the published window
    have keys and values of zero, so they are left out altogether: the same function.

    Parameters
    ----------
    facts, width, blocks, max_length
        See ``Backbone``.
    heads, head_width
        Heads, and how wide each head's queries, keys, values and gates are; heads need not divide ``width``.
    dropout, hidden_dropout
        Of embeddings, and of the gated answers.
    temperature
        Cosines are divided by it.
    time_bias
        Whether the model is time-aware: b is the sum of two parts, one for the distance, and one for the time between
        the events, in buckets.

    References
    ----------
    Zhai et al., "Actions Speak Louder than Words", ICML 2024 (arXiv 2402.17152; meta-recsys/generative-recommenders).
    There the time of an event is compared with that of the item to predict, which is known; here with the last event's.
    """

    def __init__(
        self,
        facts: DataFacts,
        *,
        width: int = 64,
        blocks: int = 2,
        heads: int = 1,
        head_width: int = 64,
        max_length: int = 50,
        dropout: float = 0.2,
        hidden_dropout: float = 0.2,
        temperature: float = 0.05,
        time_bias: bool = False,
    ) -> None:
        super().__init__(width=width, blocks=blocks, heads=heads, head_width=head_width, max_length=max_length)
        if not temperature > 0:
            raise UserError(f"HSTU has temperature {temperature}", where="model", remedy="Give a number above 0")
        self.max_length, self.temperature, self.time_bias = max_length, temperature, time_bias
        self.task = EveryPosition(max_length, times=time_bias)
        self.items = nn.Embedding(facts.n_items, width)
        self.positions = nn.Embedding(max_length, width)
        self.dropout = RowDropout(dropout, salt=0)
        self.blocks = nn.ModuleList(
            _Block(width, heads, head_width, max_length, RowDropout(hidden_dropout, 1 + b), time_bias)
            for b in range(blocks)
        )
        nn.init.trunc_normal_(self.items.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.trunc_normal_(self.positions.weight, std=width**-0.5)

    def output_table(self) -> OutputTable:
        return OutputTable(F.normalize(self.items.weight) / self.temperature)

    def item_tables(self) -> list[Tensor]:
        """See ``Backbone.item_tables``: what the output table is made of."""
        return [self.items.weight]

    def states(self, batch: Batch) -> Tensor:
        return self._states(batch, last=False)

    def user_states(self, batch: Batch) -> Tensor:
        return self._states(batch, last=True)

    def padded_states(self, items: Tensor, real: Tensor) -> Tensor:
        """See ``Backbone.padded_states``; a time-aware model has no such form, as items alone are given."""
        if self.time_bias:
            return super().padded_states(items, real)
        x = self.items(items) * math.sqrt(self.items.embedding_dim) + self.positions.weight
        for block in self.blocks:
            assert isinstance(block, _Block)
            x = block.padded(x * real.unsqueeze(2))
        return F.normalize(x[:, -1], dim=1)

    def _states(self, batch: Batch, last: bool) -> Tensor:
        if self.time_bias and batch.times is None:
            what = "model.time_bias reads when events happened, and these histories do not say"
            raise UserError(what, where="model", remedy="Give data with times, or set model.time_bias=false")
        layout = Layout(batch, self.max_length)
        x = self.items(batch.items) * math.sqrt(self.items.embedding_dim) + self.positions(layout.position)
        x = self.dropout(x, layout.streams)
        every = layout.every()
        for block in self.blocks[:-1]:
            x = block(x, every)
        # What is read when ranking is the last event of each row alone.
        return F.normalize(self.blocks[-1](x, layout.last() if last else every), dim=1)


class _Block(nn.Module):
    """x <- x + W drop(u * LN(A v)), with u, v, q, k = silu(LN(x) W'), A the weights, and no parameters in the norms."""

    def __init__(
        self, width: int, heads: int, head_width: int, max_length: int, dropout: RowDropout, time_bias: bool
    ) -> None:
        super().__init__()
        self.heads, self.head_width, self.max_length, self.dropout = heads, head_width, max_length, dropout
        self.into = nn.Linear(width, 4 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width)
        self.by_distance = nn.Embedding(max_length, 1)
        self.by_time = nn.Embedding(_LAST_BUCKET + 1, 1) if time_bias else None
        for module in (self.into, self.by_distance, self.by_time):
            if module is not None:
                nn.init.normal_(module.weight, std=0.02)
        nn.init.xavier_uniform_(self.out.weight)

    def forward(self, x: Tensor, queries: Queries) -> Tensor:
        """All events [T, d] -> those that ask, [Q, d]."""
        layout, times = queries.layout, queries.layout.batch.times
        gates, asking, keys, values = self._mapped(x)
        if queries.events is not None:
            x, gates, asking = x[queries.events], gates[queries.events], asking[queries.events]
        answers = []
        for (rows, events, _), (places, _) in zip(layout.rectangles, queries.asked, strict=True):
            q, k, v = (
                part.index_select(0, at.flatten()).view(*at.shape, self.heads, self.head_width).transpose(1, 2)
                for part, at in ((asking, places), (keys, events), (values, events))
            )
            columns = torch.arange(events.shape[1], device=x.device)
            # Where in its row a query stands, [1, q] or [g, q].
            own = columns.unsqueeze(0) if queries.events is None else layout.lengths[rows].unsqueeze(1) - 1
            gaps = None
            if self.by_time is not None and times is not None:
                at = times[events]
                gaps = at.gather(1, own.expand(len(at), -1)).unsqueeze(2) - at.unsqueeze(1)
            answers.append(self._attended(q, k, v, own.unsqueeze(2) - columns, gaps).transpose(1, 2))
        y = F.layer_norm(queries.joined(answers), values.shape[1:], eps=1e-6)
        return x + self.out(self.dropout(gates * y, queries.streams))

    def padded(self, x: Tensor) -> Tensor:
        """``forward`` in a window [B, L, d] whose pads are zero vectors, without dropout and times."""
        gates, *parts = self._mapped(x)
        columns = torch.arange(self.max_length, device=x.device)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        y = self._attended(q, k, v, (columns.unsqueeze(1) - columns).unsqueeze(0), None).transpose(1, 2).flatten(2)
        return x + self.out(gates * F.layer_norm(y, y.shape[2:], eps=1e-6))

    def _mapped(self, x: Tensor) -> tuple[Tensor, ...]:
        """Gates, queries, keys and values of events [..., d], four of [..., h * head_width]."""
        return F.silu(self.into(F.layer_norm(x, x.shape[-1:], eps=1e-6))).chunk(4, -1)

    def _attended(self, q: Tensor, k: Tensor, v: Tensor, distance: Tensor, gaps: Tensor | None) -> Tensor:
        """Answers to q [g, h, q, c] of k and v [g, h, l, c]; events are so many places and seconds before a query.

        ``distance`` is [1 or g, q, l], below 0 for events that come later; ``gaps`` is [g, q, l].
        """
        bias = self.by_distance(distance.clamp(min=0))
        if self.by_time is not None and gaps is not None:
            buckets = gaps.abs().clamp(min=1).log().div(_BUCKET).long().clamp(max=_LAST_BUCKET)
            bias = bias + self.by_time(buckets)
        weights = F.silu(q @ k.transpose(2, 3) + bias.squeeze(3).unsqueeze(1))
        return weights.masked_fill(distance.unsqueeze(1) < 0, 0) @ v / self.max_length
