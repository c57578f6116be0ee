"""The compiled kernels as functions of tensors; the package of each has its plain form in PyTorch."""

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys_lt.native.library import address

# Of ``losses.sampled``, ``losses.ce`` and ``data.streams``.


def integers(kernels: ctypes.CDLL, keys: Tensor, count: int, high: int) -> Tensor:
    """``recsys_lt.data.streams.integers``: keys [N] -> [N, count] int64 in [0, high)."""
    out = torch.empty((len(keys), count), dtype=torch.int64)
    _call(kernels.integers, keys.contiguous(), len(keys), count, high, out)
    return out


def scores(kernels: ctypes.CDLL, states: Tensor, table: Tensor, ids: Tensor) -> Tensor:
    """Scores of each state's items: states [N, d], table [I, d], ids [N, K] -> [N, K]."""
    if ids.numel() and not (int(ids.min()) >= 0 and int(ids.max()) < len(table)):
        raise IndexError(f"an item is not in the table of {len(table)}")
    states, table, ids = states.contiguous(), table.contiguous(), ids.contiguous()
    out = states.new_empty(ids.shape)
    _call(kernels.sampled_scores, states, table, ids, *ids.shape, states.shape[1], out)
    return out


def add_by_states(kernels: ctypes.CDLL, by_states: Tensor, table: Tensor, ids: Tensor, by_scores: Tensor) -> None:
    """Add the gradient by the states, [N, d], of scores whose gradient is ``by_scores`` [N, K]."""
    table, ids, by_scores = table.contiguous(), ids.contiguous(), by_scores.contiguous()
    _call(kernels.sampled_by_states, table, ids, by_scores, *ids.shape, by_states.shape[1], by_states)


def add_by_table(
    kernels: ctypes.CDLL, by_table: Tensor, states: Tensor, ids: Tensor, by_scores: Tensor, weights: Tensor
) -> None:
    """Add the gradient by the table, [I, d], each target's part times its weight [N]."""
    states, ids, by_scores, weights = (x.contiguous() for x in (states, ids, by_scores, weights))
    sizes = *ids.shape, states.shape[1], len(by_table)
    _check_memory(_call(kernels.sampled_by_table, states, ids, by_scores, weights, *sizes, by_table))


def exp_rows(kernels: ctypes.CDLL, x: Tensor, shifts: Tensor | None = None) -> Tensor:
    """Replace x [n, width] by exp(x - shift); the sums of the rows, [n].

    A row's values lie side by side. Shifts are [n] or [n, 1]; None for 0.
    """
    assert x.shape[1] <= 1 or x.stride(1) == 1
    sums = x.new_empty(len(x))
    shifts = None if shifts is None else shifts.contiguous()
    _call(kernels.exp_rows, ctypes.c_void_p(x.data_ptr()), *x.shape, x.stride(0), shifts, sums)
    return sums


def _call(function: Any, *arguments: Any) -> int:
    """Call a kernel with contiguous tensors, or None, as pointers and whole numbers as int64."""
    return int(function(*map(_in_c, arguments)))


def _in_c(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return address(argument)
    return ctypes.c_int64(argument) if isinstance(argument, int) else argument


def _check_memory(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for a compiled kernel")


# Of ``backbones.layers``.


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
    sizes = len(x), x.numel() // max(len(x), 1), salt
    _call(kernels.dropout, x, gate, keys, *sizes, ctypes.c_int(cut), ctypes.c_float(scale), out)
    return out


# Of ``llm.fused`` and ``llm.lora``, in bfloat16.


class NativeRmsNorm(torch.autograd.Function):
    """Rows x [n, d] over their root mean square, times a frozen weight [d]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, kernels: ctypes.CDLL) -> Tensor:  # type: ignore[override]
        x = x.contiguous()
        out, inverse = torch.empty_like(x), x.new_empty(len(x), dtype=torch.float32)
        _call(kernels.rms_norm, x, weight, *x.shape, ctypes.c_float(eps), out, inverse)
        ctx.save_for_backward(x, weight, inverse)
        ctx.kernels = kernels
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, inverse = ctx.saved_tensors
        out = torch.empty_like(x)
        _call(ctx.kernels.rms_norm_backward, x, weight, inverse, grad.contiguous(), *x.shape, out)
        return out, None, None, None


class NativeGate(torch.autograd.Function):
    """The product gate * sigmoid(gate) * up of two tensors of one shape."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, kernels: ctypes.CDLL) -> Tensor:  # type: ignore[override]
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        ctx.kernels = kernels
        out = torch.empty_like(gate)
        _call(kernels.gated, gate, up, gate.numel(), out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gate, up = ctx.saved_tensors
        by_gate, by_up = torch.empty_like(gate), torch.empty_like(gate)
        _call(ctx.kernels.gated_backward, gate, up, grad.contiguous(), gate.numel(), by_gate, by_up)
        return by_gate, by_up, None


def dropped(
    x: Tensor, to: Tensor | None, keys: Tensor, salt: int, cut: int, scale: float, kernels: ctypes.CDLL
) -> Tensor:
    """Dropout of rows x [n, d] by their streams, [n]; added ``to`` a tensor of that shape, which it replaces."""
    x = x.contiguous()
    out = torch.empty_like(x) if to is None else to
    _call(kernels.dropout_bfloat, x, to, keys, *x.shape, salt, ctypes.c_int(cut), ctypes.c_float(scale), out)
    return out


# Of ``backbones.attention``.


class _Arguments(ctypes.Structure):
    """``Attention`` of attention.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("query", "key_value", "pad", "offsets", "streams")),
        *((name, ctypes.c_int64) for name in ("rows", "heads", "depth", "slots", "last", "salt")),
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
        _check_memory(kernels.attention(ctypes.byref(_arguments(query, key_value, pad, histories)), address(out)))
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
        _check_memory(ctx.kernels.attention_backward(arguments, address(by_out), *gradients))
        return by_query, by_key_value, by_pad.sum(0), None, None


def _arguments(query: Tensor, key_value: Tensor, pad: Tensor, histories: Histories) -> _Arguments:
    pointers = (address(tensor) for tensor in (query, key_value, pad, histories.offsets))
    streams = None if histories.streams is None else address(histories.streams)
    rows, depth = len(histories.offsets) - 1, query.shape[1] // histories.heads
    integers = (rows, histories.heads, depth, histories.slots, histories.last, histories.salt)
    return _Arguments(*pointers, streams, *integers, histories.cut, histories.scale)
