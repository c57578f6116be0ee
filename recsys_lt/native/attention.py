"""Causal attention of packed histories by a compiled kernel; the plain form is in ``recsys_lt.backbones.attention``."""

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys_lt.native.library import address

_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int64


class _Arguments(ctypes.Structure):
    """``Attention`` of attention.c."""

    _fields_ = (
        *((name, _POINTER) for name in ("query", "key_value", "pad", "offsets", "streams")),
        *((name, _INTEGER) for name in ("rows", "heads", "depth", "slots", "last", "salt")),
        ("cut", ctypes.c_int),
        ("scale", ctypes.c_float),
    )


@dataclass(frozen=True)
class Histories:
    """Where the histories of a batch lie, and their dropout.

    Row b's events are ``offsets[b]`` to ``offsets[b + 1]``, [B + 1] int64. Each query has a stream, [Q] int64 (None: no
    dropout). ``slots`` is L, the padded length; ``last``: only the last event of each row asks; salt, cut and scale are
    the dropout layer's.
    """

    offsets: Tensor
    streams: Tensor | None
    heads: int
    slots: int
    last: bool
    salt: int
    cut: int
    scale: float


class NativeAttention(torch.autograd.Function):
    """query [Q, d], key_value [T, 2d] and those of a pad [2d] -> [Q, d]."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: Tensor, key_value: Tensor, pad: Tensor, histories: Histories, kernels: ctypes.CDLL
    ) -> Tensor:
        query, key_value, pad = query.contiguous(), key_value.contiguous(), pad.contiguous()
        ctx.save_for_backward(query, key_value, pad)
        ctx.histories, ctx.kernels = histories, kernels
        out = torch.empty_like(query)
        _check(kernels.attention(ctypes.byref(_arguments(query, key_value, pad, histories)), address(out)))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_out: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key_value, pad = ctx.saved_tensors
        by_out = by_out.contiguous()
        by_query, by_key_value = torch.empty_like(query), torch.empty_like(key_value)
        by_pad = query.new_empty(len(ctx.histories.offsets) - 1, len(pad))
        arguments = ctypes.byref(_arguments(query, key_value, pad, ctx.histories))
        gradients = address(by_query), address(by_key_value), address(by_pad)
        _check(ctx.kernels.attention_backward(arguments, address(by_out), *gradients))
        return by_query, by_key_value, by_pad.sum(0), None, None


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for attention's weights")


def _arguments(query: Tensor, key_value: Tensor, pad: Tensor, histories: Histories) -> _Arguments:
    pointers = (address(tensor) for tensor in (query, key_value, pad, histories.offsets))
    streams = None if histories.streams is None else address(histories.streams)
    rows, depth = len(histories.offsets) - 1, query.shape[1] // histories.heads
    integers = (rows, histories.heads, depth, histories.slots, histories.last, histories.salt)
    return _Arguments(*pointers, streams, *integers, histories.cut, histories.scale)
