"""The function of ``transformers``' T5 on rows of like length side by side: no padding, dropout keyed by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys_lt.backbones.layers import RowDropout
from recsys_lt.data.streams import key_of, keys_of

# A row is filled up to a multiple of so many tokens, so that more rows have one length.
_STEP = 4
_SALT = 3000  # sets these dropouts apart from those of backbones and adapters
_BLOCK = 8  # salts of a block
_HEADS = key_of(11)  # sets the streams of a token's heads apart


class Group(NamedTuple):
    """Rows of one length: their tokens, end to end, are ``tokens``, and the rows themselves ``rows``."""

    rows: slice
    tokens: slice
    n: int
    length: int
    hidden: Tensor | None  # minus infinity at fillers, 0 elsewhere, [n, 1, 1, L]; None where there is no filler


@dataclass(frozen=True)
class Layout:
    """Where the tokens of ragged rows stand: rows in order of length, those of one length side by side."""

    order: Tensor  # which row stands at each place, [B] int64
    places: Tensor  # which of the rows' tokens, laid end to end, stands at each place, [T] int64
    ends: Tensor  # place of each row's last token, in the rows' own order, [B] int64
    lengths: Tensor  # of the rows, in their own order, [B] int64
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Layout":
        """The layout of B rows of one token or more, each filled up with its last token to a multiple of four."""
        given = torch.tensor(lengths, dtype=torch.int64)
        filled = (given + _STEP - 1) // _STEP * _STEP
        order = filled.argsort(stable=True)
        first = (given.cumsum(0) - given)[order]
        sizes, filled = given[order], filled[order]
        place = torch.arange(int(filled.sum())) - (filled.cumsum(0) - filled).repeat_interleave(filled)
        last = (sizes - 1).repeat_interleave(filled)
        ends = torch.empty_like(order).index_copy_(0, order, filled.cumsum(0) - filled + sizes - 1)
        groups: list[Group] = []
        row = token = 0
        for length, n in zip(*(part.tolist() for part in filled.unique_consecutive(return_counts=True)), strict=True):
            rows, tokens = slice(row, row + n), slice(token, token + n * length)
            fillers = (place > last)[tokens].view(n, 1, 1, length)
            hidden = torch.zeros(fillers.shape).masked_fill_(fillers, -torch.inf) if bool(fillers.any()) else None
            groups.append(Group(rows, tokens, n, length, None if hidden is None else hidden.to(device)))
            row, token = rows.stop, tokens.stop
        places = first.repeat_interleave(filled) + torch.minimum(place, last)
        order, places, ends, given = (part.to(device) for part in (order, places, ends, given))
        return cls(order, places, ends, given, tuple(groups))

    @classmethod
    def rectangle(cls, n: int, length: int, device: torch.device) -> "Layout":
        """The layout of n rows of one length, as they are."""
        every, rows = torch.arange(n * length, device=device), torch.arange(n, device=device)
        group = Group(slice(0, n), slice(0, n * length), n, length, None)
        return cls(rows, every, (rows + 1) * length - 1, torch.full_like(rows, length), (group,))

    def streams(self, of_rows: Tensor) -> Tensor:
        """The random stream of each token, [T], of those of the rows, [B]."""
        of_rows = of_rows[self.order]
        found = []
        for group in self.groups:
            place = torch.arange(group.length, device=of_rows.device)
            found.append((of_rows[group.rows].unsqueeze(1) + place).flatten())
        return keys_of(0, torch.cat(found))

    def rectangle_of(self, x: Tensor) -> Tensor:
        """The rows' tokens [T, d] in their own order, a row a line, [B, L, d]; anything after a row's end."""
        place = torch.arange(int(self.lengths.max()), device=x.device)
        return x[((self.ends - self.lengths + 1).unsqueeze(1) + place).clamp(max=len(x) - 1)]

    def real(self) -> Tensor:
        """Which places of that rectangle hold a token, [B, L] bool."""
        return torch.arange(int(self.lengths.max()), device=self.lengths.device) < self.lengths.unsqueeze(1)


class Memory(NamedTuple):
    """Rows that were encoded, as a decoder reads them."""

    states: Tensor  # of their tokens, [T, d]
    layout: Layout


class PackedStack:
    """The blocks of an encoder or a decoder of T5, evaluated on packed rows.

    The weights stay those of the ``transformers.T5Stack``. Dropout is where T5 has it.

    Parameters
    ----------
    stack
        The ``T5Stack``.
    dropout
        Probability.
    number
        Tells its dropout masks from another stack's.
    causal
        Whether a token sees none that comes after it.
    """

    def __init__(self, stack: Any, dropout: float, number: int, causal: bool) -> None:
        self.stack, self.causal = stack, causal
        stack.block[0].layer[0].SelfAttention.is_decoder = causal  # which its biases are made by
        first = _SALT + (number << 10)
        self._ends = [RowDropout(dropout, first + n) for n in range(2)]
        self._drops = [
            [RowDropout(dropout, first + _BLOCK * (block + 1) + n) for n in range(_BLOCK)]
            for block in range(len(stack.block))
        ]

    def __call__(
        self,
        x: Tensor,
        layout: Layout,
        keys: Tensor | None,
        memory: Memory | None = None,
        pairs: list[tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """Input vectors of tokens [T, d] -> their last states [T, d].

        ``keys`` [T] are the tokens' random streams; None drops nothing out. ``memory`` is what a decoder reads.
        ``pairs`` takes the keys and values of each block's own attention.
        """
        x = dropped(self._ends[0], x, keys)
        biases = {length: self.bias(length) for length in {group.length for group in layout.groups}}
        for block, drops in zip(self.stack.block, self._drops, strict=True):
            attention, more, *rest = drops
            x = x + dropped(more, self._self_attention(block, x, layout, keys, attention, biases, pairs), keys)
            if memory is not None:
                x = x + dropped(rest[1], self._cross_attention(block, x, layout, keys, rest[0], memory), keys)
            x = x + dropped(rest[3], self.feed_forward(block, x, keys, rest[2]), keys)
        return dropped(self._ends[1], norm(self.stack.final_layer_norm, x), keys)

    def bias(self, length: int) -> Tensor:
        """What is added to the scores of a row's tokens, [1, h, L, L]."""
        found: Tensor = self.stack.block[0].layer[0].SelfAttention.compute_bias(length, length)
        if self.causal:
            later = torch.ones(length, length, dtype=torch.bool, device=found.device).triu_(1)
            found = found.masked_fill(later, -torch.inf)
        return found

    def _self_attention(
        self,
        block: Any,
        x: Tensor,
        layout: Layout,
        keys: Tensor | None,
        drop: RowDropout,
        biases: dict[int, Tensor],
        pairs: list[tuple[Tensor, Tensor]] | None,
    ) -> Tensor:
        layer = block.layer[0]
        attention, normed = layer.SelfAttention, norm(layer.layer_norm, x)
        q, k, v = attention.q(normed), attention.k(normed), attention.v(normed)
        if pairs is not None:
            pairs.append((k, v))
        answers = []
        # Split, not sliced: the gradient of a slice is as large as the whole, and there is one for each group.
        sizes = [group.n * group.length for group in layout.groups]
        for group, *parts in zip(layout.groups, q.split(sizes), k.split(sizes), v.split(sizes), strict=True):
            own = [by_heads(part, group.n, attention) for part in parts]
            bias = biases[group.length] if group.hidden is None else biases[group.length] + group.hidden
            streams = None if keys is None else keys[group.tokens]
            answers.append(attend(own[0], own[1], own[2], bias, drop, streams))
        found: Tensor = attention.o(torch.cat(answers))
        return found

    def _cross_attention(
        self, block: Any, x: Tensor, layout: Layout, keys: Tensor | None, drop: RowDropout, memory: Memory
    ) -> Tensor:
        layer = block.layer[1]
        attention, n = layer.EncDecAttention, len(memory.layout.order)
        # All answers to a row read it side by side: they do not see each other here.
        q = by_heads(attention.q(norm(layer.layer_norm, x)), n, attention)
        k, v = attention.k(memory.states), attention.v(memory.states)
        streams = None if keys is None else keys.view(n, -1)
        groups = memory.layout.groups
        sizes = [read.n * read.length for read in groups]
        parts = q.split([read.n for read in groups]), k.split(sizes), v.split(sizes)
        answers = []
        for read, own, of_keys, of_values in zip(groups, *parts, strict=True):
            pair = by_heads(of_keys, read.n, attention), by_heads(of_values, read.n, attention)
            own_streams = None if streams is None else streams[read.rows].flatten()
            answers.append(attend(own, *pair, read.hidden, drop, own_streams))
        found: Tensor = attention.o(torch.cat(answers))
        return found

    def feed_forward(self, block: Any, x: Tensor, keys: Tensor | None, drop: RowDropout | None) -> Tensor:
        """The feed-forward layer of a block: tokens [T, d] -> [T, d], before the residual."""
        layer = block.layer[-1]
        inner, normed = layer.DenseReluDense, norm(layer.layer_norm, x)
        if hasattr(inner, "wi_0"):
            hidden = dropped(drop, inner.act(inner.wi_0(normed)) * inner.wi_1(normed), keys)
        elif keys is not None and drop is not None and isinstance(inner.act, torch.nn.ReLU):
            hidden = drop.relu(inner.wi(normed), keys)
        else:
            hidden = dropped(drop, inner.act(inner.wi(normed)), keys)
        found: Tensor = inner.wo(hidden)
        return found


def dropped(drop: RowDropout | None, x: Tensor, keys: Tensor | None) -> Tensor:
    """Dropout of x [n, ...] under the streams of the n; ``keys`` None drops nothing."""
    return x if keys is None or drop is None else drop(x, keys)


def by_heads(x: Tensor, n: int, attention: Any) -> Tensor:
    """Tokens of n rows [n * L, h * d] -> [n, h, L, d]."""
    return x.view(n, -1, attention.n_heads, attention.key_value_proj_dim).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, drop: RowDropout, keys: Tensor | None) -> Tensor:
    """Attention without a scale, as T5 has it: [n, h, q, d], [n, h, k, d] twice -> [n * q, h * d].

    ``bias`` is added to the scores [n, h, q, k]; ``keys`` [n * q] are the queries' random streams.
    """
    n, heads, n_queries, _ = q.shape
    scores = q @ k.transpose(2, 3)
    weights = (scores if bias is None else scores + bias).softmax(3)
    if keys is not None and drop.cut:
        of_heads = torch.arange(heads, device=keys.device).view(1, heads, 1)
        streams = keys_of(_HEADS, keys.view(n, 1, n_queries) + of_heads).flatten()
        weights = drop(weights.reshape(-1, weights.shape[3]), streams).view(weights.shape)
    return (weights @ v).transpose(1, 2).reshape(n * n_queries, -1)


def norm(layer: Any, x: Tensor) -> Tensor:
    """T5's norm, which moves no mean and adds no bias: x / rms(x) * weight."""
    found: Tensor = _Norm.apply(x, layer.weight, layer.variance_epsilon)
    return found


class _Norm(torch.autograd.Function):
    """As torch's ``rms_norm``, which takes three times as long on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = x.float()
        inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = inverse.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_y: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        scaled = by_y * x
        by_weight = inverse.T @ scaled.reshape(-1, x.shape[-1])
        along = (scaled @ weight).unsqueeze(-1)
        by_x = (by_y * weight).mul_(inverse)
        by_x.addcmul_(x, along.mul_(inverse**3).div_(-x.shape[-1]))
        return by_x, by_weight.view_as(weight), None
