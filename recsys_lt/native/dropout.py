"""Dropout by compiled kernel: see ``recsys_lt.backbones.dropout`` for the plain form."""

import ctypes
from dataclasses import dataclass
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
        ctx.mask = _Mask(salt, cut, scale, kernels)
        return ctx.mask(x, x if relu else None, keys)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        keys, gate = ctx.saved_tensors
        return ctx.mask(grad.contiguous(), gate, keys), None, None, None, None, None, None


@dataclass(frozen=True)
class _Mask:
    salt: int
    cut: int
    scale: float
    kernels: ctypes.CDLL

    def __call__(self, x: Tensor, gate: Tensor | None, keys: Tensor) -> Tensor:
        out = torch.empty_like(x)
        self.kernels.dropout(
            address(x),
            None if gate is None else address(gate),
            address(keys),
            ctypes.c_int64(len(x)),
            ctypes.c_int64(x.numel() // max(len(x), 1)),
            ctypes.c_int64(self.salt),
            ctypes.c_int(self.cut),
            ctypes.c_float(self.scale),
            address(out),
        )
        return out
