"""A GRU layer over packed rows, its gradient written out."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def gru(x: Tensor, w_ih: Tensor, w_hh: Tensor, running: tuple[int, ...]) -> Tensor:
    """Hidden states of a GRU layer without bias, after every event.

    ``torch.nn.GRU`` on a CPU lets autograd slice its input at every step, and the gradient of a slice is a
    tensor of the whole input's size. Here a step back is three operations: everything but the recursion itself is
    formed for all steps at once. ``nn.GRU`` is the plain form; both give the same values and gradients.

    Parameters
    ----------
    x
        Inputs, first those of step 0, then of step 1, ..., longest row first, [T, d].
    w_ih, w_hh
        Weights of input and state, gates in torch's order (reset, update, new), [3h, d] and [3h, h].
    running
        How many rows reach each step, falling; they add up to T.

    Returns
    -------
    Tensor
        [T, h], laid out as ``x``.
    """
    return _Gru.apply(x, w_ih, w_hh, running)


class _Gru(torch.autograd.Function):
    """Reset r, update z, new n = tanh(a + r * b), with b = W_hn h; then h <- (1 - z) n + z h."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, running: tuple[int, ...]) -> Tensor:
        width = w_hh.shape[1]
        gates = x @ w_ih.T
        hidden = x.new_empty(len(x), width)
        of_new = x.new_zeros(len(x), width)  # W_hn h; the first step's h is zero
        of_state = x.new_empty(max(running, default=0), 3 * width)  # W_hh h of one step
        before, start = 0, 0
        for step, rows in enumerate(running):
            here = slice(start, start + rows)
            gate = gates[here]
            if step:
                last = hidden[before : before + rows]
                torch.mm(last, w_hh.T, out=of_state[:rows])
                gate[:, : 2 * width] += of_state[:rows, : 2 * width]
                of_new[here] = of_state[:rows, 2 * width :]
            gate[:, : 2 * width].sigmoid_()
            reset, update, new = gate.split(width, 1)
            if step:
                new.addcmul_(reset, of_new[here]).tanh_()
                torch.lerp(new, last, update, out=hidden[here])
            else:
                new.tanh_()
                torch.sub(new, update * new, out=hidden[here])
            before, start = start, start + rows
        ctx.running = running
        ctx.save_for_backward(x, w_ih, w_hh, gates, of_new, hidden)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_hidden: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, gates, of_new, hidden = ctx.saved_tensors
        running: tuple[int, ...] = ctx.running
        width = w_hh.shape[1]
        reset, update, new = gates.split(width, 1)
        last = _before(hidden, running)
        # The gradients by the gates' inputs are those by h times these: new (of x), reset, update, new (of h).
        slope = x.new_empty(len(x), 4, width)
        torch.mul(1 - update, 1 - new * new, out=slope[:, 0])
        torch.mul(slope[:, 0], reset, out=slope[:, 3])
        torch.mul(slope[:, 3] * of_new, 1 - reset, out=slope[:, 1])
        torch.mul((last - new) * update, 1 - update, out=slope[:, 2])
        by_h = by_hidden.clone(memory_format=torch.contiguous_format)
        start = len(x)
        for step in range(len(running) - 1, -1, -1):
            rows = running[step]
            start -= rows
            here = slice(start, start + rows)
            slope[here] *= by_h[here].unsqueeze(1)
            if step:
                earlier = by_h[start - running[step - 1] :][:rows]
                earlier.addcmul_(by_h[here], update[here]).addmm_(slope[here].flatten(1)[:, width:], w_hh)
        by_gates = slope.flatten(1)
        # In the order new, reset, update.
        turned = w_ih.roll(width, 0)
        by_x = by_gates[:, : 3 * width] @ turned if ctx.needs_input_grad[0] else None
        by_w_ih = (by_gates[:, : 3 * width].T @ x).roll(-width, 0)
        by_w_hh = by_gates[:, width:].T @ last
        return by_x, by_w_ih, by_w_hh, None


def _before(hidden: Tensor, running: tuple[int, ...]) -> Tensor:
    """Each event's state before it, [T, h]: zero at the first step."""
    last = torch.zeros_like(hidden)
    start = 0
    for rows, following in pairwise(running):
        last[start + rows : start + rows + following] = hidden[start : start + following]
        start += rows
    return last
