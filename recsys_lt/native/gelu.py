"""GELU by compiled kernel: the plain form is PyTorch's own."""

import ctypes

from torch import Tensor

from recsys_lt.native.library import address


def gelu_(kernels: ctypes.CDLL, x: Tensor) -> None:
    """Replace x by gelu(x)."""
    kernels.gelu(address(x), ctypes.c_int64(x.numel()))


def gelu_backward_(kernels: ctypes.CDLL, x: Tensor, by_x: Tensor) -> None:
    """Replace the gradient by gelu(x) by that by x, and x by gelu(x)."""
    if x.shape != by_x.shape:
        raise ValueError(f"a gradient of shape {tuple(by_x.shape)} for one of {tuple(x.shape)}")
    kernels.gelu_backward(address(x), address(by_x), ctypes.c_int64(x.numel()))
