"""Recurrences over packed rows, all rows at once: a GRU layer and a linear recurrence, with gradients of their own."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Events in a piece: a batch whose longest row has n of them is walked in 2 * PIECE + n / PIECE steps instead of n.
PIECE = 16


@dataclass(frozen=True)
class Steps:
    """How packed rows are walked through: step k takes the k-th event of every piece with one, longest first."""

    piece: int  # most events in a piece
    order: Tensor  # the events, first those of step 0, then of step 1, ..., [T] int64
    running: tuple[int, ...]  # how many pieces reach each step, falling; they add up to T
    giving: Tensor  # pieces that another of their row follows, [C] int64: places among the pieces, longest first
    taking: Tensor  # those that follow them; both begin with the rows' first pieces, row with most pieces first
    handing: tuple[int, ...]  # how many rows have a 1st, 2nd, ... piece that another follows, falling; they add up to C

    @classmethod
    def of(cls, lengths: tuple[int, ...], device: torch.device, piece: int = PIECE) -> "Steps":
        """Of rows of these many events; worked out on the host, which knows the lengths."""
        rows = torch.tensor(lengths, dtype=torch.int64)
        pieces = (rows + piece - 1) // piece
        row = torch.repeat_interleave(pieces)
        nth = torch.arange(len(row)) - (pieces.cumsum(0) - pieces)[row]
        size = (rows[row] - nth * piece).clamp_(max=piece)
        rank = _places(size.argsort(descending=True, stable=True))
        running = _reaching(size)
        # The event of step k in the piece of rank r stands r places after where the step begins.
        of_event = torch.repeat_interleave(size)
        step = torch.arange(len(of_event)) - (size.cumsum(0) - size)[of_event]
        begin = torch.tensor([0, *running], dtype=torch.int64).cumsum(0)
        order = _places(begin[step] + rank[of_event])
        followed = (nth + 1 < pieces[row]).nonzero().squeeze(1)
        row_rank = _places(pieces.argsort(descending=True, stable=True))
        followed = followed[(nth[followed] * len(rows) + row_rank[row[followed]]).argsort()]
        # A piece's follower is the next one before they are ranked.
        giving, taking = rank[followed], rank[followed + 1] if len(followed) else rank[:0]
        handing = _reaching((pieces - 1).clamp_(min=0))
        return cls(piece, order.to(device), running, giving.to(device), taking.to(device), handing)

    @cached_property
    def places(self) -> Tensor:
        """Where each event of the batch stands in ``order``, [T] int64."""
        return _places(self.order)


def _places(order: Tensor) -> Tensor:
    """The inverse of a permutation."""
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    return places


def _reaching(sizes: Tensor) -> tuple[int, ...]:
    """How many sizes are above 0, above 1, ..., as long as there are any."""
    if len(sizes) == 0:
        return ()
    return tuple((len(sizes) - torch.bincount(sizes).cumsum(0)[:-1]).tolist())


class GRULayer(torch.autograd.Function):
    """Hidden states of a GRU layer without bias, after every event, [T, h] laid out as ``x``.

    Reset r, update z, new n = tanh(a + r * b), with b = W_hn h; then h <- (1 - z) n + z h. ``torch.nn.GRU`` on a CPU
    lets autograd slice its input at every step, and the gradient of a slice is a tensor of the full input's size. Here
    a step back is three operations: everything but the recursion itself is formed for all steps at once. ``nn.GRU`` is
    the plain form; both give the same values and gradients.

    Parameters
    ----------
    x
        Inputs in the order of ``Steps`` whose piece is a row, [T, d], T at least 1.
    w_ih, w_hh
        Weights of input and state, gates in torch's order (reset, update, new), [3h, d] and [3h, h].
    running
        ``Steps.running``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, running: tuple[int, ...]) -> Tensor:
        width = w_hh.shape[1]
        gates = x @ w_ih.T
        hidden = x.new_empty(len(x), width)
        of_new = x.new_zeros(len(x), width)  # W_hn h; the first step's h is zero
        of_state = x.new_empty(running[0], 3 * width)  # W_hh h of one step
        last = None
        for gate, h, of_h in zip(gates.split(running), hidden.split(running), of_new.split(running), strict=True):
            if last is not None:
                last = last[: len(h)]
                products = torch.mm(last, w_hh.T, out=of_state[: len(h)])
                gate[:, : 2 * width] += products[:, : 2 * width]
                of_h.copy_(products[:, 2 * width :])
            gate[:, : 2 * width].sigmoid_()
            reset, update, new = gate.split(width, 1)
            if last is None:
                new.tanh_()
                torch.sub(new, update * new, out=h)
            else:
                new.addcmul_(reset, of_h).tanh_()
                torch.lerp(new, last, update, out=h)
            last = h
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
        before = zip(hidden.split(running), running[1:], strict=False)
        last = torch.cat([x.new_zeros(running[0], width), *(h[:rows] for h, rows in before)])
        # The gradients by the gates' inputs are those by h times these: new (of x), reset, update, new (of h).
        slope = x.new_empty(len(x), 4, width)
        torch.mul(1 - update, 1 - new * new, out=slope[:, 0])
        torch.mul(slope[:, 0], reset, out=slope[:, 3])
        torch.mul(slope[:, 3] * of_new, 1 - reset, out=slope[:, 1])
        torch.mul((last - new) * update, 1 - update, out=slope[:, 2])
        by_h = by_hidden.clone(memory_format=torch.contiguous_format)
        by_steps, slopes, updates = (part.split(running) for part in (by_h, slope, update))
        for step in reversed(range(len(running))):
            by_step, here = by_steps[step], slopes[step]
            here *= by_step.unsqueeze(1)
            if step:
                earlier = by_steps[step - 1][: len(here)]
                earlier.addcmul_(by_step, updates[step]).addmm_(here.flatten(1)[:, width:], w_hh)
        by_gates = slope.flatten(1)
        # In the order new, reset, update.
        by_x = by_gates[:, : 3 * width] @ w_ih.roll(width, 0)
        by_w_ih = (by_gates[:, : 3 * width].T @ x).roll(-width, 0)
        by_w_hh = by_gates[:, width:].T @ last
        return by_x, by_w_ih, by_w_hh, None


class LinearRecurrence(torch.autograd.Function):
    """States h_t = decay * h_{t-1} + u_t, [T, D] laid out as ``u``, all rows at once and long rows in pieces.

    Rows are cut into pieces of at most ``steps.piece`` events. A first walk through all pieces side by side finds what
    each hands on to the next if nothing came before it; those sums are themselves a recurrence along the pieces
    of a row, with the decay to the power of a piece; a second walk, each piece begun with what reaches it, gives
    the states. No padding, and 44 steps for a row of 200. The gradient is the same walk backwards: with G_t the
    gradient by h_t whatever way, G_t = g_t + conj(decay) * G_{t+1}.

    Parameters
    ----------
    u
        Inputs in the order of ``steps``, [T, D], complex or real.
    decay
        What a state keeps of the one before it, [D], of the same kind; |decay| <= 1 keeps states in bounds.
    steps
        How the batch is walked through.

    References
    ----------
    Blelloch, "Prefix sums and their applications", CMU-CS-90-190 (the scan in two levels).
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, decay: Tensor, steps: Steps) -> Tensor:
        inputs = u.split(steps.running)
        h = torch.empty_like(u)
        begun = None
        if steps.handing:
            # Only full pieces are followed: what they hand on is what the last step leaves.
            sums = inputs[0][: steps.running[-1]].clone()
            for x in inputs[1:]:
                torch.addcmul(x[: len(sums)], decay, sums, out=sums)
            handed = sums[steps.giving]
            power = decay**steps.piece
            for last, here in pairwise(handed.split(steps.handing)):
                here.addcmul_(power, last[: len(here)])
            begun = u.new_zeros(len(inputs[0]), u.shape[1]).index_copy_(0, steps.taking, handed)
        last = begun
        for x, out in zip(inputs, h.split(steps.running), strict=True):
            if last is None:
                out.copy_(x)
            else:
                torch.addcmul(x, decay, last[: len(x)], out=out)
            last = out
        ctx.steps = steps
        ctx.save_for_backward(decay, h, *([] if begun is None else [begun]))
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_h: Tensor) -> tuple[Tensor, Tensor | None, None]:
        steps: Steps = ctx.steps
        decay, h, *begun = ctx.saved_tensors
        # All in conjugates, so that no product needs one formed: later events' gradients are added in here.
        total = by_h.conj_physical() if by_h.is_complex() else by_h.clone(memory_format=torch.contiguous_format)
        parts = total.split(steps.running)
        if begun:
            sums = torch.zeros_like(begun[0])
            for g in reversed(parts):
                here = sums[: len(g)]
                torch.addcmul(g, decay, here, out=here)
            handed = sums[steps.taking]
            power = decay**steps.piece
            for here, later in reversed(list(pairwise(handed.split(steps.handing)))):
                here[: len(later)].addcmul_(power, later)
            ends = torch.zeros_like(parts[-1]).index_copy_(0, steps.giving, handed)
            parts[-1].addcmul_(decay, ends)
        by_decay = total.new_zeros(max(steps.running, default=0), total.shape[1])  # each piece's share
        for last, here, later in reversed(list(zip(h.split(steps.running), parts, parts[1:], strict=False))):
            here[: len(later)].addcmul_(decay, later)
            by_decay[: len(later)].addcmul_(later, last[: len(later)])
        if begun:
            by_decay.addcmul_(parts[0], begun[0])
        return total.conj_physical_(), by_decay.sum(0).conj(), None
