"""Layers that several backbones share: dropout keyed by row, items in a padded window, a feed-forward in chunks."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recsys_lt.data.batch import Batch
from recsys_lt.data.streams import key_of, lanes
from recsys_lt.errors import UserError
from recsys_lt.native.functions import NativeDropout
from recsys_lt.native.library import usable

# Positions that an MLP takes at a time: their hidden values, four times as wide as their states, stay in cache.
_CHUNK = 1024


class _Mask(torch.autograd.Function):
    """The product x * keep * scale, saving the one-byte mask alone."""

    @staticmethod
    def forward(ctx, x: Tensor, keep: Tensor, scale: float) -> Tensor:  # type: ignore[override,no-untyped-def]
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return torch.ops.aten.native_dropout_backward(x, keep, scale)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override,no-untyped-def]
        (keep,) = ctx.saved_tensors
        return torch.ops.aten.native_dropout_backward(grad, keep, ctx.scale), None, None


class RowDropout(nn.Module):
    """Dropout from streams keyed by row; asking twice gives the same mask.

    Masks come of 16-bit integers, so the probability is ``p`` to within 2**-17; the scale matches the
    probability actually used, and the expectation is exact.

    Parameters
    ----------
    p
        Probability of zeroing an element, in [0, 1).
    salt
        Tells this layer's masks from those of the model's other dropout layers: number them 0, 1, 2, ...
    """

    def __init__(self, p: float, salt: int) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UserError(f"dropout is {p}", where="model", remedy="A dropout is a probability in [0, 1)")
        self.cut, self.salt = min(round(p * 65536), 65535), key_of(salt)

    @property
    def scale(self) -> float:
        """What survivors are multiplied by: one over the probability of keeping."""
        return 65536 / (65536 - self.cut)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """X [n, ...] and the random stream of each of the n, [n] -> the same shape; see ``Batch.streams``."""
        if not self.training or self.cut == 0:
            return x
        if kernels := usable(x):
            return NativeDropout.apply(x, keys, self.salt, self.cut, self.scale, False, kernels)
        keep = self.kept(x.shape[1:].numel(), keys).view_as(x)
        return _Mask.apply(x, keep, self.scale)

    def relu(self, x: Tensor, keys: Tensor) -> Tensor:
        """Dropout of max(x, 0), in one pass where there are kernels."""
        if self.training and self.cut and (kernels := usable(x)):
            return NativeDropout.apply(x, keys, self.salt, self.cut, self.scale, True, kernels)
        return self(F.relu(x), keys)

    def kept(self, count: int, keys: Tensor) -> Tensor:
        """Which of ``count`` elements survive for every key: keys [n] -> [n, count] bool."""
        return lanes(keys ^ self.salt, count) >= self.cut - 32768


class _PlaceOnPads(torch.autograd.Function):
    """Rows x [T, d] put at their slots of [count, d], all other slots holding the pad [d].

    The pad's gradient is zero by definition, not None: see ``PaddedItems``.
    """

    @staticmethod
    def forward(ctx, x: Tensor, pad: Tensor, slots: Tensor, count: int) -> Tensor:  # type: ignore[override,no-untyped-def]
        ctx.save_for_backward(slots)
        return pad.expand(count, -1).clone().index_copy_(0, slots, x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override,no-untyped-def]
        (slots,) = ctx.saved_tensors
        return grad.index_select(0, slots), grad.new_zeros(grad.shape[1]), None, None


class PaddedItems(nn.Module):
    """Item embeddings laid out in a window, right-aligned, with a pad vector before short histories.

    The reference's pad is a row of the item table with ``padding_idx``: drawn at random, entering the computation, and
    never learned. But its gradient is zero, not absent, so Adam's coupled weight decay does shrink it (to nothing
    within an epoch at lr 1e-4, weight decay 5e-4). Hence a parameter with a zero gradient here rather than a buffer.
    """

    def __init__(self, n_items: int, width: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_items, width).normal_(0, std))
        self.pad = nn.Parameter(torch.empty(width).normal_(0, std))
        self.sparse = False  # as in nn.Embedding

    def forward(self, batch: Batch, length: int) -> Tensor:
        """The last ``length`` places of each row, [B, length, d]; no history may be longer."""
        if max(batch.lengths, default=0) > length:
            raise ValueError(f"a history of {max(batch.lengths)} events in a window of {length}")
        # Row b ends at slot (b + 1) * length; its events move there from offsets[b + 1].
        ends = torch.arange(1, len(batch) + 1, device=batch.items.device) * length
        shift = (ends - batch.offsets[1:])[batch.rows_of_events()]
        slots = shift + torch.arange(len(batch.items), device=batch.items.device)
        events = F.embedding(batch.items, self.weight, sparse=self.sparse)
        window: Tensor = _PlaceOnPads.apply(events, self.pad, slots, len(batch) * length)
        return window.view(len(batch), length, -1)

    def padded(self, items: Tensor, real: Tensor) -> Tensor:
        """``forward`` of a window [B, L] that is padded already -> [B, L, d]."""
        return torch.where(real.unsqueeze(2), F.embedding(items, self.weight), self.pad)


def is_event(batch: Batch, length: int) -> Tensor:
    """Which places of the window hold an event rather than a pad, [B, length] bool."""
    places = torch.arange(length, device=batch.items.device)
    return places >= length - batch.offsets.diff().unsqueeze(1)


class MLP(nn.Sequential):
    """Linear d -> 4d, GELU (erf), Linear 4d -> d, over the last dimension of a tensor.

    On a CPU the positions are taken a chunk at a time, forward and backward: the hidden layer, of 26 MB in a
    published batch of FMLP-Rec, is neither kept nor written to fresh memory but formed again in the backward pass, at
    a seventh product. ``plain`` is the textbook form; both give the same values and gradients.
    """

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """X [..., d] -> [..., d]."""
        if x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_exporting():
            return self.plain(x)
        inner, outer = self[0], self[2]
        y: Tensor = _InChunks.apply(x.reshape(-1, x.shape[-1]), inner.weight, inner.bias, outer.weight, outer.bias)
        return y.view_as(x)

    def plain(self, x: Tensor) -> Tensor:
        """Evaluate the textbook form, gradients by autograd."""
        return super().forward(x)


class _InChunks(torch.autograd.Function):
    """gelu(x W1' + b1) W2' + b2 for x [n, d], W1 [h, d], W2 [d, h]; only x is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
        ctx.save_for_backward(x, w1, b1, w2)
        y = torch.empty_like(x)
        hidden = x.new_empty(min(_CHUNK, len(x)), len(w1))
        for of_x, of_y in zip(x.split(_CHUNK), y.split(_CHUNK), strict=True):
            h = hidden[: len(of_x)]
            torch.addmm(b1, of_x, w1.T, out=h)
            torch.ops.aten.gelu.out(h, out=h)
            torch.addmm(b2, h, w2.T, out=of_y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_y: Tensor) -> tuple[Tensor, ...]:
        x, w1, b1, w2 = ctx.saved_tensors
        by_y = by_y.contiguous()
        by_x, by_w1, by_b1, by_w2 = (torch.zeros_like(t) for t in ctx.saved_tensors)
        hidden, by_hidden = (x.new_empty(min(_CHUNK, len(x)), len(w1)) for _ in range(2))
        ones = x.new_ones(len(hidden))
        for of_x, by_out, by_in in zip(*(part.split(_CHUNK) for part in (x, by_y, by_x)), strict=True):
            n = len(of_x)
            h, by_h = hidden[:n], by_hidden[:n]
            torch.mm(by_out, w2, out=by_h)
            torch.addmm(b1, of_x, w1.T, out=h)
            torch.ops.aten.gelu_backward.grad_input(by_h, h, grad_input=by_h)
            torch.ops.aten.gelu.out(h, out=h)
            by_w2.addmm_(by_out.T, h)
            by_w1.addmm_(by_h.T, of_x)
            by_b1.addmv_(by_h.T, ones[:n])  # a sum over rows, by the faster routine
            torch.mm(by_h, w1, out=by_in)
        return by_x, by_w1, by_b1, by_w2, by_y.sum(0)
