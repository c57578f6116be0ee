"""Cosine attention of packed histories in one Triton kernel, and its gradients in another."""

from functools import lru_cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

#: Events that are read at a time.
_BLOCK = 32
_EPS = 1e-12  # of the norms, as in F.normalize


def usable(*tensors: Tensor) -> bool:
    """Whether the kernel can work on heads [T, h, c]: on a GPU that Triton compiles for, with c = 16 or 32."""
    on_gpu = all(t.device.type == "cuda" and t.shape[2] in (16, 32) for t in tensors)
    return on_gpu and kernels() is not None


@lru_cache(maxsize=1)
def kernels() -> Any:
    """The module of kernels, or None where Triton is not installed."""
    try:
        return import_module("recsys_lt.native.triton_kernels")
    except ImportError:
        return None


class CosineAttention(torch.autograd.Function):
    """Answers n ** -e sum_s (q_t . k_s) v_s of all n events s of each row, with q and k divided by their norms.

    A program computes one head of one row: the sum of the products k_s v_s' stays on chip, and only the answers are
    written. Sums are in float32. The backward pass sums the products again instead of keeping them.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, exponent: Tensor, offsets: Tensor) -> Tensor:
        """Answers [T, h, c] to q, k and v [T, h, c]; exponents [h], and where rows begin and end, [B + 1]."""
        q, k, v = (x.contiguous() for x in (q, k, v))
        n = offsets.diff().clamp(min=1).float()
        scale = n[:, None] ** -exponent.float()
        answers = torch.empty_like(q)
        grid = (len(offsets) - 1, q.shape[1])
        kernels().forward[grid](q, k, v, scale, offsets, answers, q.shape[1], q.shape[2], _BLOCK, _EPS)
        ctx.save_for_backward(q, k, v, scale, offsets, n)
        return answers

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k, v and the exponents."""
        q, k, v, scale, offsets, n = ctx.saved_tensors
        of_q, of_k, of_v = (torch.empty_like(x) for x in (q, k, v))
        product = torch.empty_like(scale)  # of answers and their gradients
        kernels().backward[(len(offsets) - 1, q.shape[1])](
            q, k, v, gradients[0].contiguous(), scale, offsets, of_q, of_k, of_v, product,
            q.shape[1], q.shape[2], _BLOCK, _EPS,
        )  # fmt: skip
        return of_q, of_k, of_v, -(n.log()[:, None] * product).sum(0), None
