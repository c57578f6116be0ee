"""Feed-forward of a transformer block, in chunks: its hidden layer is never held in full."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Positions in a chunk: their hidden values, four times as wide as their states, stay in cache.
_CHUNK = 1024


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
        for part in _chunks(len(x)):
            h = hidden[: len(x[part])]
            torch.addmm(b1, x[part], w1.T, out=h)
            torch.ops.aten.gelu.out(h, out=h)
            torch.addmm(b2, h, w2.T, out=y[part])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_y: Tensor) -> tuple[Tensor, ...]:
        x, w1, b1, w2 = ctx.saved_tensors
        by_y = by_y.contiguous()
        by_x, by_w1, by_b1, by_w2 = (torch.zeros_like(t) for t in ctx.saved_tensors)
        hidden, by_hidden = (x.new_empty(min(_CHUNK, len(x)), len(w1)) for _ in range(2))
        ones = x.new_ones(len(hidden))
        for part in _chunks(len(x)):
            n = len(x[part])
            h, by_h = hidden[:n], by_hidden[:n]
            torch.mm(by_y[part], w2, out=by_h)
            torch.addmm(b1, x[part], w1.T, out=h)
            torch.ops.aten.gelu_backward.grad_input(by_h, h, grad_input=by_h)
            torch.ops.aten.gelu.out(h, out=h)
            by_w2.addmm_(by_y[part].T, h)
            by_w1.addmm_(by_h.T, x[part])
            by_b1.addmv_(by_h.T, ones[:n])  # a sum over rows, by the faster routine
            torch.mm(by_h, w1, out=by_x[part])
        return by_x, by_w1, by_b1, by_w2, by_y.sum(0)


def _chunks(n: int) -> list[slice]:
    return [slice(start, start + _CHUNK) for start in range(0, n, _CHUNK)]
