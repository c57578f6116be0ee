"""GELU and its slope by compiled kernel; PyTorch's own operations are the plain form."""

import ctypes

from torch import Tensor

from recsys_lt.native.library import address


def gelu_(kernels: ctypes.CDLL, z: Tensor) -> None:
    """Put gelu(z) in place of z."""
    kernels.gelu(address(z), ctypes.c_int64(z.numel()), address(z))


def gelu_backward_(kernels: ctypes.CDLL, z: Tensor, by: Tensor) -> None:
    """Put gelu(z) in place of z, and of its gradient ``by`` that by z."""
    kernels.gelu_backward(address(z), ctypes.c_int64(z.numel()), address(z), address(by))
