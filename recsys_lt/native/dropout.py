"""Dropout by compiled kernel: see ``recsys_lt.backbones.dropout`` for the plain form."""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys_lt.native.library import address


class NativeDropout(torch.autograd.Function):
    """The product x * keep * scale (with ``relu``: of max(x, 0)), masks made on the way and never stored."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, keys: Tensor, salt: int, cut: int, scale: float, relu: bool, kernels: ctypes.CDLL
    ) -> Tensor:
        if len(keys) != len(x):
            raise ValueError(f"{len(keys)} keys for {len(x)} rows")
        x, keys = x.contiguous(), keys.contiguous()
        ctx.save_for_backward(keys, x if relu else None)
        ctx.mask = (salt, cut, scale, kernels)
        return _masked(x, x if relu else None, keys, *ctx.mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        keys, gate = ctx.saved_tensors
        return _masked(grad.contiguous(), gate, keys, *ctx.mask), None, None, None, None, None, None


def _masked(
    x: Tensor, gate: Tensor | None, keys: Tensor, salt: int, cut: int, scale: float, kernels: ctypes.CDLL
) -> Tensor:
    out = torch.empty_like(x)
    pointers = address(x), None if gate is None else address(gate), address(keys)
    sizes = (ctypes.c_int64(size) for size in (len(x), x.numel() // max(len(x), 1), salt))
    kernels.dropout(*pointers, *sizes, ctypes.c_int(cut), ctypes.c_float(scale), address(out))
    return out
