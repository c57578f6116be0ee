"""Exponentials of score rows by compiled kernel: plain forms in ``recsys_lt.losses``' CE and SCE."""

import ctypes

import torch
from torch import Tensor

from recsys_lt.native.library import address

_INTEGER = ctypes.c_int64


def exp_rows(kernels: ctypes.CDLL, x: Tensor) -> Tensor:
    """Replace x [n, width] by exp(x) and return the rows' sums, [n]."""
    sums = x.new_empty(len(x))
    kernels.exp_rows(_start(x), _INTEGER(len(x)), _INTEGER(x.shape[1]), _INTEGER(x.stride(0)), address(sums))
    return sums


def exp_rows_above(kernels: ctypes.CDLL, x: Tensor, cuts: Tensor, shifts: Tensor) -> Tensor:
    """Replace x [n, width] by exp(x - shift), and by 0 where x is below its row's cut [n]; the rows' sums, [n]."""
    sums = x.new_empty(len(x))
    kernels.exp_rows_above(
        _start(x),
        _INTEGER(len(x)),
        _INTEGER(x.shape[1]),
        _INTEGER(x.stride(0)),
        address(cuts),
        address(shifts),
        address(sums),
    )
    return sums


def sce_rows(kernels: ctypes.CDLL, positive: Tensor, negative: Tensor, alpha: float) -> Tensor:
    """SCE of scores [n] and [n, K], which are replaced by its gradient by them; the losses, [n]."""
    losses = torch.empty(len(positive))
    kernels.sce_rows(
        ctypes.c_void_p(positive.data_ptr()),
        _INTEGER(positive.stride(0)),
        _start(negative),
        _INTEGER(len(negative)),
        _INTEGER(negative.shape[1]),
        _INTEGER(negative.stride(0)),
        ctypes.c_float(alpha),
        address(losses),
    )
    return losses


def _start(rows: Tensor) -> ctypes.c_void_p:
    assert rows.shape[1] <= 1 or rows.stride(1) == 1
    return ctypes.c_void_p(rows.data_ptr())
