"""Attention of packed rows by compiled kernel: see ``recsys_lt.backbones.sasrec`` for the plain form."""

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recsys_lt.native.library import address

_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int64


class _Arguments(ctypes.Structure):
    """``Attention`` of attention.c."""

    _fields_ = (
        ("query", _POINTER),
        ("key_value", _POINTER),
        ("pad", _POINTER),
        ("offsets", _POINTER),
        ("streams", _POINTER),
        ("rows", _INTEGER),
        ("heads", _INTEGER),
        ("depth", _INTEGER),
        ("slots", _INTEGER),
        ("last", _INTEGER),
        ("salt", _INTEGER),
        ("cut", ctypes.c_int),
        ("scale", ctypes.c_float),
    )


@dataclass(frozen=True)
class Rows:
    """What of a batch the kernel reads besides vectors.

    Parameters
    ----------
    offsets
        Row b's events are ``offsets[b]`` to ``offsets[b + 1]``, [B + 1] int64.
    streams
        Of each query, [Q] int64; None for no dropout.
    heads
        Attention heads.
    slots
        L, the padded length.
    last
        Whether only the last event of each row asks.
    salt, cut, scale
        Of the dropout layer.
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
        ctx: Any, query: Tensor, key_value: Tensor, pad: Tensor, rows: Rows, kernels: ctypes.CDLL
    ) -> Tensor:
        query, key_value, pad = query.contiguous(), key_value.contiguous(), pad.contiguous()
        ctx.save_for_backward(query, key_value, pad)
        ctx.rows, ctx.kernels = rows, kernels
        out = torch.empty_like(query)
        kernels.attention(ctypes.byref(_arguments(query, key_value, pad, rows)), address(out))
        return out

    @staticmethod
    def backward(ctx: Any, by_out: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key_value, pad = ctx.saved_tensors
        by_out = by_out.contiguous()
        by_query, by_key_value = torch.empty_like(query), torch.empty_like(key_value)
        by_pad = query.new_empty(len(ctx.rows.offsets) - 1, len(pad))
        ctx.kernels.attention_backward(
            ctypes.byref(_arguments(query, key_value, pad, ctx.rows)),
            address(by_out),
            address(by_query),
            address(by_key_value),
            address(by_pad),
        )
        return by_query, by_key_value, by_pad.sum(0), None, None


def _arguments(query: Tensor, key_value: Tensor, pad: Tensor, rows: Rows) -> _Arguments:
    width = query.shape[1]
    return _Arguments(
        address(query),
        address(key_value),
        address(pad),
        address(rows.offsets),
        None if rows.streams is None else address(rows.streams),
        len(rows.offsets) - 1,
        rows.heads,
        width // rows.heads,
        rows.slots,
        rows.last,
        rows.salt,
        rows.cut,
        rows.scale,
    )
