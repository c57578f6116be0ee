"""GELU by compiled kernel: the plain form is PyTorch's own."""

import ctypes

from torch import Tensor

from recsys_lt.native.library import address


def gelu_(kernels: ctypes.CDLL, x: Tensor, bias: Tensor) -> None:
    """Replace x [n, width] by gelu(x + bias [width])."""
    kernels.gelu(address(x), _bias(x, bias), *_sizes(x))


def gelu_backward_(kernels: ctypes.CDLL, x: Tensor, bias: Tensor, by_x: Tensor) -> None:
    """Replace the gradient by gelu(x + bias) by that by x, and x by gelu(x + bias)."""
    if x.shape != by_x.shape:
        raise ValueError(f"a gradient of shape {tuple(by_x.shape)} for one of {tuple(x.shape)}")
    kernels.gelu_backward(address(x), _bias(x, bias), address(by_x), *_sizes(x))


def _bias(x: Tensor, bias: Tensor) -> ctypes.c_void_p:
    if bias.shape != x.shape[1:]:
        raise ValueError(f"a bias of shape {tuple(bias.shape)} for rows of {x.shape[1]}")
    return address(bias)


def _sizes(x: Tensor) -> tuple[ctypes.c_int64, ctypes.c_int64]:
    return ctypes.c_int64(len(x)), ctypes.c_int64(x.shape[1])
