"""Compiled kernels of losses; their plain forms are in ``data.streams``, ``losses.sampled`` and ``losses.ce``."""

import ctypes

import torch
from torch import Tensor

from recsys_lt.native.library import address

_INTEGER = ctypes.c_int64


def integers(kernels: ctypes.CDLL, keys: Tensor, count: int, high: int) -> Tensor:
    """``recsys_lt.data.streams.integers``: keys [N] -> [N, count] int64 in [0, high)."""
    keys = keys.contiguous()
    out = torch.empty((len(keys), count), dtype=torch.int64)
    kernels.integers(address(keys), _INTEGER(len(keys)), _INTEGER(count), _INTEGER(high), address(out))
    return out


def scores(kernels: ctypes.CDLL, states: Tensor, table: Tensor, ids: Tensor) -> Tensor:
    """Scores of each state's items: states [N, d], table [I, d], ids [N, K] -> [N, K]."""
    if ids.numel() and not (int(ids.min()) >= 0 and int(ids.max()) < len(table)):
        raise IndexError(f"an item is not in the table of {len(table)}")
    states, table, ids = states.contiguous(), table.contiguous(), ids.contiguous()
    out = states.new_empty(ids.shape)
    kernels.sampled_scores(address(states), address(table), address(ids), *_sizes(states, ids), address(out))
    return out


def add_by_states(kernels: ctypes.CDLL, by_states: Tensor, table: Tensor, ids: Tensor, by_scores: Tensor) -> None:
    """Add the gradient by the states, [N, d], of scores whose gradient is ``by_scores`` [N, K]."""
    table, ids, by_scores = table.contiguous(), ids.contiguous(), by_scores.contiguous()
    kernels.sampled_by_states(
        address(table), address(ids), address(by_scores), *_sizes(by_states, ids), address(by_states)
    )


def add_by_table(
    kernels: ctypes.CDLL, by_table: Tensor, states: Tensor, ids: Tensor, by_scores: Tensor, weights: Tensor
) -> None:
    """Add the gradient by the table, [I, d], each target's part times its weight [N]."""
    states, ids, by_scores, weights = (x.contiguous() for x in (states, ids, by_scores, weights))
    pointers = (address(x) for x in (states, ids, by_scores, weights))
    size = _INTEGER(len(by_table))
    failed = kernels.sampled_by_table(*pointers, *_sizes(states, ids), size, address(by_table))
    if failed:
        raise MemoryError("no memory to sort the sampled items")


def _sizes(states: Tensor, ids: Tensor) -> tuple[ctypes.c_int64, ctypes.c_int64, ctypes.c_int64]:
    return _INTEGER(len(ids)), _INTEGER(ids.shape[1]), _INTEGER(states.shape[1])


def exp_rows(kernels: ctypes.CDLL, x: Tensor, shifts: Tensor | None = None) -> Tensor:
    """Replace x [n, width] by exp(x - shift); the sums of the rows, [n].

    A row's values lie side by side. Shifts are [n] or [n, 1]; None for 0.
    """
    assert x.shape[1] <= 1 or x.stride(1) == 1
    sums = x.new_empty(len(x))
    shifts = None if shifts is None else shifts.contiguous()
    sizes = (_INTEGER(size) for size in (len(x), x.shape[1], x.stride(0)))
    of_rows = None if shifts is None else address(shifts)
    kernels.exp_rows(ctypes.c_void_p(x.data_ptr()), *sizes, of_rows, address(sums))
    return sums
