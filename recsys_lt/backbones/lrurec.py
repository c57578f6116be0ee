"""LRURec: linear recurrent units, supervised at every position."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recsys_lt.backbones.backbone import Backbone, check_sizes
from recsys_lt.backbones.dropout import RowDropout
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.tasks.next_item import EveryPosition
from recsys_lt.losses.output_table import OutputTable

# Events in a piece: a batch whose longest row has n of them is walked in 2 * PIECE + n / PIECE steps instead of n.
PIECE = 16


class LRURec(Backbone):
    """Blocks of a linear recurrence and a feed-forward over a user's events; scored with the embeddings and a bias.

    The recurrence, diagonal and complex, is the only thing that knows of order: no positions are learned, and a
    history may be continued event by event. Pads of the published window carry nothing on, so they are left out
    altogether: the same function.

    Parameters: see ``Backbone``. The recurrence is 2d complex numbers wide.

    References
    ----------
    Yue et al., "Linear Recurrent Units for Sequential Recommendation", WSDM 2024 (arXiv 2310.02367), as trained for the
    retriever of LlamaRec (Yueeeeeeee/LlamaRec); the unit is that of Orvieto et al., ICML 2023 (arXiv 2303.06349).
    """

    def __init__(
        self, facts: DataFacts, *, width: int = 64, blocks: int = 2, max_length: int = 50, dropout: float = 0.2
    ) -> None:
        super().__init__()
        check_sizes("LRURec", width=width, blocks=blocks, max_length=max_length)
        self.max_length = max_length
        self.task = EveryPosition(max_length)
        self.items = nn.Embedding(facts.n_items, width)
        self.out_bias = nn.Parameter(torch.empty(facts.n_items))
        self.dropout = RowDropout(dropout, salt=0)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(width, dropout, first_salt=1 + 3 * block) for block in range(blocks))
        # The reference draws all but the norms and the recurrence this way, its biases too.
        drawn = [self.items, *(module for module in self.modules() if isinstance(module, nn.Linear))]
        for parameter in (self.out_bias, *(p for module in drawn for p in module.parameters())):
            nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)

    def output_table(self) -> OutputTable:
        return OutputTable(self.items.weight, self.out_bias)

    def states(self, batch: Batch) -> Tensor:
        """[T, d]: after every event."""
        steps, x, streams = self._begun(batch)
        for block in self.blocks:
            x = block(x, streams, steps)
        return x[steps.places]

    def user_states(self, batch: Batch) -> Tensor:
        """[B, d]; a row without history has a state of zeros, and the biases for its scores."""
        steps, x, streams = self._begun(batch)
        if len(x) == 0:
            return x.new_zeros(len(batch), x.shape[1])
        for block in self.blocks[:-1]:
            x = block(x, streams, steps)
        # What is read is the last event of each row: of the others the last block need only know the recurrence.
        # The "last event" of a row without any is the one before its first: of another row, or -1.
        x = self.blocks[-1](x, streams, steps, steps.places[batch.offsets[1:] - 1])
        if min(batch.lengths) == 0:
            x = x.masked_fill(batch.offsets.diff().eq(0).unsqueeze(1), 0)
        return x

    def padded_states(self, items: Tensor, real: Tensor) -> Tensor:
        """See ``Backbone.padded_states``; a row without history has a state of zeros."""
        x = self.norm(self.items(items))
        for block in self.blocks:
            assert isinstance(block, _Block)
            x = block.padded(x, real)
        return x[:, -1] * real[:, -1:]

    def _begun(self, batch: Batch) -> tuple["Steps", Tensor, Tensor]:
        """How the batch is walked through; in that order, the events embedded [T, d] and their streams [T]."""
        steps = Steps.of(batch.lengths, batch.items.device)
        streams = batch.event_streams()[steps.order]
        x = self.norm(self.dropout(self.items(batch.items[steps.order]), streams))
        return steps, x, streams


class _Block(nn.Module):
    """x <- LN(x + drop(LRU(x))), then x <- LN(x + drop(MLP(x))), with dropout within the MLP too.

    Uses dropout salts ``first_salt`` and the next two.
    """

    def __init__(self, width: int, dropout: float, first_salt: int) -> None:
        super().__init__()
        self.unit = LinearRecurrentUnit(width)
        self.unit_dropout = RowDropout(dropout, first_salt)
        self.unit_norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 4 * width)
        self.inner_dropout = RowDropout(dropout, first_salt + 1)
        self.outer = nn.Linear(4 * width, width)
        self.outer_dropout = RowDropout(dropout, first_salt + 2)
        self.outer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, streams: Tensor, steps: "Steps", wanted: Tensor | None = None) -> Tensor:
        """All events [T, d] -> all of them, or those in the places ``wanted`` [n] -> [n, d]."""
        h = self.unit.hidden(x, steps)
        if wanted is not None:
            h, x, streams = h[wanted], x[wanted], streams[wanted]
        x = self.unit_norm(x + self.unit_dropout(self.unit.out_of(h), streams))
        inner = self.inner_dropout(F.gelu(self.inner(x)), streams)
        return self.outer_norm(x + self.outer_dropout(self.outer(inner), streams))

    def padded(self, x: Tensor, real: Tensor) -> Tensor:
        """``forward`` in a window [B, L, d], of which the places ``real`` [B, L] hold an event, without dropout."""
        x = self.unit_norm(x + self.unit.out_of(self.unit.padded_hidden(x, real)))
        return self.outer_norm(x + self.outer(F.gelu(self.inner(x))))


class LinearRecurrentUnit(nn.Module):
    """h_t = lambda * h_{t-1} + gamma * (W_in x_t + b_in), y_t = Re(W_out h_t + b_out), with h complex [2d].

    ``lambda = exp(-exp(nu) + i exp(theta))`` lies within the unit circle whatever the parameters: a state never grows.
    Complex maps are kept as real ones, so that optimizers and precisions meet nothing unusual: W_in makes a
    real and an imaginary part side by side, W_out reads them so (its imaginary weights with the sign turned). At the
    start lambda is drawn evenly over the ring of moduli from ``smallest`` to ``largest``.
    """

    def __init__(self, width: int, smallest: float = 0.8, largest: float = 0.99) -> None:
        super().__init__()
        modulus = torch.empty(2 * width).uniform_(smallest**2, largest**2).sqrt()
        phase = 2 * math.pi * (1 - torch.rand(2 * width))  # (0, 2 pi]: zero has no logarithm
        self.nu_log = nn.Parameter((-modulus.log()).log())
        self.theta_log = nn.Parameter(phase.log())
        # With it a stationary input gives states as large as itself, wherever lambda lies.
        self.gamma_log = nn.Parameter((1 - modulus**2).sqrt().log())
        self.into = nn.Linear(width, 4 * width)
        self.out_of = nn.Linear(4 * width, width)

    def decay(self) -> Tensor:
        """The recurrence's lambda, [2d] complex."""
        return torch.polar((-self.nu_log.exp()).exp(), self.theta_log.exp())

    def _inputs(self, x: Tensor) -> Tensor:
        """The recurrence's inputs for x [..., d] -> [..., 4d]."""
        # gamma goes to the weights, of which there are fewer than events.
        gamma = self.gamma_log.exp().repeat_interleave(2)
        return F.linear(x, self.into.weight * gamma.unsqueeze(1), self.into.bias * gamma)

    def padded_hidden(self, x: Tensor, real: Tensor) -> Tensor:
        """``hidden`` in a window [B, L, d] -> [B, L, 4d], in real numbers: each pass doubles how far a state looks."""
        h = (self._inputs(x) * real.unsqueeze(2)).unflatten(2, (-1, 2))
        modulus, phase = (-self.nu_log.exp()).exp(), self.theta_log.exp()
        step = 1
        while step < x.shape[1]:
            a, b = modulus**step * (step * phase).cos(), modulus**step * (step * phase).sin()
            before = F.pad(h[:, :-step], (0, 0, 0, 0, step, 0))
            h = h + torch.stack([a * before[..., 0] - b * before[..., 1], b * before[..., 0] + a * before[..., 1]], 3)
            step *= 2
        return h.flatten(2)

    def hidden(self, x: Tensor, steps: "Steps") -> Tensor:
        """States after x [T, d], in the order of ``steps`` -> [T, 4d]: each number's real and its imaginary part."""
        u = self._inputs(x)
        if u.dtype in (torch.bfloat16, torch.float16):  # there are no complex numbers of these
            u = u.float()
        h = linear_recurrence(torch.view_as_complex(u.view(len(u), -1, 2)), self.decay(), steps)
        return torch.view_as_real(h).flatten(1)


def plain_linear_recurrence(u: Tensor, decay: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """``h_t = decay * h_{t-1} + u_t`` from h = 0 by the textbook loop, row by row, gradients by autograd.

    Inputs ``u`` [T, D] and ``decay`` [D] are complex or real, rows of these lengths end to end; so are the states.
    """
    states = []
    for row in u.split(lengths):
        h = torch.zeros_like(decay)
        for step in row:
            h = decay * h + step
            states.append(h)
    return torch.stack(states) if states else u.clone()


def linear_recurrence(u: Tensor, decay: Tensor, steps: "Steps") -> Tensor:
    """The same states, [T, D] laid out as ``u``, all rows at once and long rows in pieces.

    Rows are cut into pieces of at most ``steps.piece`` events. A first walk through all pieces side by side finds what
    each hands on to the next if nothing came before it; those sums are themselves a recurrence along the pieces
    of a row, with the decay to the power of a piece; a second walk, each piece begun with what reaches it, gives
    the states. No padding, and 44 steps for a row of 200. The gradient is the same walk backwards with the
    conjugate decay. ``plain_linear_recurrence`` is the plain form; both give the same values and gradients.

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
    return _LinearRecurrence.apply(u, decay, steps)


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


class _LinearRecurrence(torch.autograd.Function):
    """h_t = decay * h_{t-1} + u_t; with G_t the gradient by h_t whatever way, G_t = g_t + conj(decay) * G_{t+1}."""

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
