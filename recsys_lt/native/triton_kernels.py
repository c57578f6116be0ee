"""The Triton kernels, imported where Triton is installed. A program computes head ``head`` of row ``row``."""

import triton
import triton.language as tl


@triton.jit
def _read(source, events, end, head, heads, width: tl.constexpr):
    """Numbers of some events of a row, [block, width] float32; 0 beyond the row's end."""
    columns = tl.arange(0, width)
    places = (events[:, None] * heads + head) * width + columns[None, :]
    return tl.load(source + places, mask=events[:, None] < end, other=0.0).to(tl.float32)


@triton.jit
def _read_all(q_of, k_of, v_of, g_of, events, end, head, heads, width: tl.constexpr):
    q = _read(q_of, events, end, head, heads, width)
    k = _read(k_of, events, end, head, heads, width)
    v = _read(v_of, events, end, head, heads, width)
    return q, k, v, _read(g_of, events, end, head, heads, width)


@triton.jit
def _write(target, values, events, end, head, heads, width: tl.constexpr):
    columns = tl.arange(0, width)
    places = (events[:, None] * heads + head) * width + columns[None, :]
    tl.store(target + places, values.to(target.dtype.element_ty), mask=events[:, None] < end)


@triton.jit
def _inverse_norm(x, eps):
    return 1.0 / tl.maximum(tl.sqrt(tl.sum(x * x, 1)), eps)[:, None]


@triton.jit
def forward(
    q_of, k_of, v_of, scale_of, offsets, answers, heads, width: tl.constexpr, block: tl.constexpr, eps: tl.constexpr
):
    """Answers of a row's events."""
    row, head = tl.program_id(0), tl.program_id(1)
    start, end = tl.load(offsets + row), tl.load(offsets + row + 1)
    scale = tl.load(scale_of + row * heads + head)
    sums = tl.zeros((width, width), tl.float32)
    for first in range(start, end, block):
        events = first + tl.arange(0, block)
        k = _read(k_of, events, end, head, heads, width)
        v = _read(v_of, events, end, head, heads, width)
        sums += tl.dot(tl.trans(k * _inverse_norm(k, eps)), v, input_precision="tf32x3")
    for first in range(start, end, block):
        events = first + tl.arange(0, block)
        q = _read(q_of, events, end, head, heads, width)
        found = tl.dot(q * _inverse_norm(q, eps), sums, input_precision="tf32x3") * scale
        _write(answers, found, events, end, head, heads, width)


@triton.jit
def backward(
    q_of, k_of, v_of, gradient, scale_of, offsets, to_q, to_k, to_v, product,
    heads, width: tl.constexpr, block: tl.constexpr, eps: tl.constexpr,
):  # fmt: skip
    """Gradients of q, k and v, and the sum of answers times their gradients."""
    row, head = tl.program_id(0), tl.program_id(1)
    start, end = tl.load(offsets + row), tl.load(offsets + row + 1)
    scale = tl.load(scale_of + row * heads + head)
    of_keys = tl.zeros((width, width), tl.float32)
    of_queries = tl.zeros((width, width), tl.float32)
    for first in range(start, end, block):
        events = first + tl.arange(0, block)
        q, k, v, g = _read_all(q_of, k_of, v_of, gradient, events, end, head, heads, width)
        g *= scale
        of_keys += tl.dot(tl.trans(k * _inverse_norm(k, eps)), v, input_precision="tf32x3")
        of_queries += tl.dot(tl.trans(q * _inverse_norm(q, eps)), g, input_precision="tf32x3")
    total = tl.zeros((block,), tl.float32)
    for first in range(start, end, block):
        events = first + tl.arange(0, block)
        q, k, v, g = _read_all(q_of, k_of, v_of, gradient, events, end, head, heads, width)
        g *= scale
        of_q, of_k = _inverse_norm(q, eps), _inverse_norm(k, eps)
        q, k = q * of_q, k * of_k
        along = tl.dot(g, tl.trans(of_keys), input_precision="tf32x3")
        inner = tl.sum(q * along, 1)
        total += inner
        _write(to_q, (along - q * inner[:, None]) * of_q, events, end, head, heads, width)
        along = tl.dot(v, tl.trans(of_queries), input_precision="tf32x3")
        _write(to_k, (along - k * tl.sum(k * along, 1)[:, None]) * of_k, events, end, head, heads, width)
        _write(to_v, tl.dot(k, of_queries, input_precision="tf32x3"), events, end, head, heads, width)
    tl.store(product + row * heads + head, tl.sum(total, 0))
