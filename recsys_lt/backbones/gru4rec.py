"""GRU4Rec: a recurrent network over each prefix."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence

from recsys_lt.backbones.backbone import Backbone, check_sizes
from recsys_lt.backbones.dropout import RowDropout
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.tasks.next_item import OnePass, Prefixes
from recsys_lt.losses.output_table import OutputTable


class GRU4Rec(Backbone):
    """A GRU over item embeddings, read after the last event; scored with the embeddings themselves.

    Source: Hidasi et al., ICLR 2016, as trained in MTandHJ/CE-SCE-LLMRec: every prefix is a row, and
    between the embeddings and the scores stand one dropout, the GRU without bias, and one linear map.

    Parameters
    ----------
    facts, width, max_length, dropout
        See ``Backbone``; dropout is of the embeddings, event by event.
    layers
        Stacked GRU layers.
    one_pass
        Train on all positions of a user in one pass, rather than on each prefix as a row of its own. Inputs,
        targets and gradients are those of the prefixes, in expectation over dropout. Not the same are the
        noise (a user's prefixes share their dropout masks) and the company (they share a batch). Rows
        hold several targets then: set ``trainer.batch_rows`` for about 512 of them (87 on Beauty).
    """

    def __init__(
        self,
        facts: DataFacts,
        *,
        width: int = 64,
        layers: int = 1,
        max_length: int = 50,
        dropout: float = 0.5,
        one_pass: bool = False,
    ) -> None:
        super().__init__()
        check_sizes("GRU4Rec", width=width, layers=layers, max_length=max_length)
        self.max_length = max_length
        self.task = OnePass(max_length) if one_pass else Prefixes(max_length)
        self.items = nn.Embedding(facts.n_items, width)
        self.dropout = RowDropout(dropout, salt=0)
        self.gru = nn.GRU(width, width, layers, bias=False)
        self.dense = nn.Linear(width, width)
        nn.init.xavier_normal_(self.items.weight)
        for weight in self.gru.parameters():
            nn.init.xavier_uniform_(weight)

    def states(self, batch: Batch) -> Tensor:
        """[N, d]: after each row, or in one pass after each event with a target."""
        if batch.target_events is None:
            return self.user_states(batch)
        return self.dense(self._hidden(batch, batch.target_events))

    def user_states(self, batch: Batch) -> Tensor:
        return self.dense(self._hidden(batch, batch.offsets[1:] - 1))

    def padded_states(self, items: Tensor, real: Tensor) -> Tensor:
        """See ``Backbone.padded_states``; without biases, the state stays zero until the first event."""
        x = (self.items(items) * real.unsqueeze(2)).transpose(0, 1)
        return self.dense(self.gru(x)[0][-1])

    def _hidden(self, batch: Batch, at: Tensor) -> Tensor:
        """Hidden states after the events ``at`` [n] -> [n, d]; a row without history has a state of zeros.

        Such a row's "last event" is the one before its first: of another row, or -1.
        """
        order, running = time_major(batch)
        x = self.dropout(self.items(batch.items[order]), batch.event_streams()[order])
        if len(x) == 0:
            return x.new_zeros(len(at), self.dense.in_features)
        if x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            for layer in range(self.gru.num_layers):
                of_input, of_state = (self.gru.get_parameter(f"weight_{kind}_l{layer}") for kind in ("ih", "hh"))
                x = gru(x, of_input, of_state, running)
        else:
            # The packed form lets a row leave the recurrence at its end: one cuDNN call, no work on padding.
            x = self.gru(PackedSequence(x, torch.tensor(running)))[0].data
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        hidden = x[place[at]]
        if min(batch.lengths) == 0 and len(at) == len(batch):
            hidden = hidden.masked_fill(batch.offsets.diff().eq(0).unsqueeze(1), 0)
        return hidden

    def output_table(self) -> OutputTable:
        return OutputTable(self.items.weight)


def time_major(batch: Batch) -> tuple[Tensor, tuple[int, ...]]:
    """How to lay a batch out step by step, longest row first.

    Given are the events, first those of step 0, then of step 1, ..., [T] int64, and how many rows reach each step; on
    the host, where the GRU wants it.
    """
    row_rank = batch.offsets.diff().argsort(descending=True, stable=True).argsort()
    rows = batch.rows_of_events()
    step = torch.arange(len(rows), device=rows.device) - batch.offsets[rows]
    order = (step * len(batch) + row_rank[rows]).argsort()
    ended = torch.bincount(torch.tensor(batch.lengths)).cumsum(0)[:-1]
    return order, tuple((len(batch) - ended).tolist())


def gru(x: Tensor, w_ih: Tensor, w_hh: Tensor, running: tuple[int, ...]) -> Tensor:
    """Hidden states of a GRU layer without bias, after every event, [T, h] laid out as ``x``.

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
