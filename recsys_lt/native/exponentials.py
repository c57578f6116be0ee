"""Exponentials of rows of scores by a compiled kernel; the plain form is in ``recsys_lt.losses.ce``."""

import ctypes

from torch import Tensor

from recsys_lt.native.library import address


def exp_rows(kernels: ctypes.CDLL, x: Tensor, cuts: Tensor | None = None, shifts: Tensor | None = None) -> Tensor:
    """Replace x [n, width] by exp(x - shift), 0 where x is below its row's cut; the sums of the rows, [n].

    A row's values lie side by side. Cuts and shifts are [n] or [n, 1]; None for no cut, and for a shift of 0.
    """
    assert x.shape[1] <= 1 or x.stride(1) == 1
    sums = x.new_empty(len(x))
    of_rows = [None if tensor is None else tensor.contiguous() for tensor in (cuts, shifts)]
    kernels.exp_rows(
        ctypes.c_void_p(x.data_ptr()),
        *(ctypes.c_int64(size) for size in (len(x), x.shape[1], x.stride(0))),
        *(None if tensor is None else address(tensor) for tensor in of_rows),
        address(sums),
    )
    return sums
