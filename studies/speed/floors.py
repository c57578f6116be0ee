"""The products that a training step cannot do without: of a loss, and of each backbone.

``bench.py`` finds a backbone's function by the name of the module in ``recsys_lt.backbones``: ``sasrec(model, batch)``
makes a step's products for ``model``, the configuration's, on ``batch``.
"""

from collections.abc import Callable
from typing import Any

import torch

from recsys_lt.backbones.recurrence import Steps
from recsys_lt.data.batch import Batch
from recsys_lt.losses.blocks import row_blocks

#: Makes the products of one step.
Step = Callable[[], None]


def together(*steps: Step) -> Step:
    """All of them, one after the other."""

    def once() -> None:
        for step in steps:
            step()

    return once


def linear(rows: int, width_in: int, width_out: int) -> Step:
    """A linear map of so many rows: forward, and the gradients of input and weight."""
    x, weight = torch.randn(rows, width_in), torch.randn(width_out, width_in)
    y, by_x, by_weight = torch.empty(rows, width_out), torch.empty_like(x), torch.empty_like(weight)

    def once() -> None:
        torch.matmul(x, weight.T, out=y)
        torch.matmul(y, weight, out=by_x)
        torch.matmul(y.T, x, out=by_weight)

    return once


def loss(rows: int, width: int, columns: int, exponentials: int, dtype: torch.dtype) -> Step:
    """Products with the table (scores, gradients of states and of table) and exponentials, in blocks."""
    sizes = heights(rows, columns)
    states = torch.randn(sizes[0], width).to(dtype)
    table = torch.randn(columns, width).mul_(0.01).to(dtype)
    scores = torch.empty(sizes[0], columns, dtype=dtype)
    logits = torch.zeros(sizes[0], exponentials, dtype=dtype)
    powers = torch.empty_like(logits)
    by_states = torch.empty(sizes[0], width, dtype=dtype)
    by_table = torch.empty(columns, width, dtype=dtype)

    def once() -> None:
        for n in sizes:
            torch.matmul(states[:n], table.T, out=scores[:n])
            if exponentials == columns:
                scores[:n].exp_()
            elif exponentials:
                torch.exp(logits[:n], out=powers[:n])
            torch.matmul(scores[:n], table, out=by_states[:n])
            torch.matmul(scores[:n].T, states[:n], out=by_table)

    return once


def heights(rows: int, columns: int) -> list[int]:
    """Heights of the blocks the losses score a batch's rows in."""
    return [block.stop - block.start for block in row_blocks(rows, columns, torch.get_default_device())]


def sasrec(model: Any, batch: Batch) -> Step:
    """SASRec: its Linear layers at every event. Attention is left out."""
    events, width = len(batch.items), model.width
    # query, key and value, out, inner, outer
    outs = [width, 2 * width, width, width, width] * model.blocks
    return together(*(linear(events, width, out) for out in outs))


def bert4rec(model: Any, batch: Batch) -> Step:
    """BERT4Rec: its Linear layers at every event, in the last block behind the attention at the targets alone.

    Attention and the exponentials of the GELUs are left out.
    """
    events, targets, width = len(batch.items), len(batch.targets), model.width
    into = [(width, width), (width, 2 * width)]
    behind = [(width, width), (width, 4 * width), (4 * width, width)]
    blocks = [*(into + behind) * (model.blocks - 1), *into]
    return together(*(linear(events, *sizes) for sizes in blocks), *(linear(targets, *sizes) for sizes in behind))


#: Cotten4Rec: the same layers, and attention left out.
cotten4rec = bert4rec


def linrec(model: Any, batch: Batch) -> Step:
    """LinRec: the layers of BERT4Rec or, in its causal form, of SASRec."""
    return (bert4rec if "mask_probability" in model else sasrec)(model, batch)


def hstu(model: Any, batch: Batch) -> Step:
    """HSTU: its two Linear layers at every event. Attention is left out."""
    events, inner = len(batch.items), model.heads * model.head_width
    return together(*[linear(events, model.width, 4 * inner), linear(events, inner, model.width)] * model.blocks)


def gru4rec(model: Any, batch: Batch) -> Step:
    """GRU4Rec: the gates' products, of the inputs at once and of the states step by step; and the dense layer."""
    width, running = model.width, Steps.of(batch.lengths, batch.items.device, max(batch.lengths)).running
    layer = (linear(len(batch.items), width, 3 * width), recurrence(running[1:], width))
    return together(*layer * model.layers, linear(len(batch.targets), width, width))


def recurrence(running: tuple[int, ...], width: int) -> Step:
    """Products with the state, a step after the other, for so many rows each."""
    longest, events = max(running, default=0), sum(running)
    state, gates = torch.randn(longest, width), torch.empty(longest, 3 * width)
    states, all_gates = torch.randn(events, width), torch.randn(events, 3 * width)
    weight = torch.randn(3 * width, width)

    def once() -> None:
        for n in running:
            torch.matmul(state[:n], weight.T, out=gates[:n])
        for n in running:
            torch.matmul(all_gates[:n], weight, out=state[:n])
        torch.matmul(all_gates.T, states)

    return once


def caser(model: Any, batch: Batch) -> Step:
    """Caser: its convolutions as products, and the dense layer."""
    rows, length, width = len(batch), model.max_length, model.width
    return together(
        linear(rows * width, length, model.vertical),
        # A filter as high as k events meets length - k + 1 stretches of them.
        *(linear(rows * (length - k + 1), k * width, model.horizontal) for k in range(1, length + 1)),
        linear(rows, model.vertical * width + model.horizontal * length, width),
    )


def fmlp_rec(model: Any, batch: Batch) -> Step:
    """FMLP-Rec: transforms there and back, as products, and the feed-forwards; in the last block at the last position.

    A real transform of 50 events is cheaper as a product with a fixed matrix than as an FFT. The exponentials are those
    of the GELUs: one an element in the forward pass and one in the backward pass.
    """
    rows, length, width = len(batch), model.max_length, model.width
    block = (transforms(rows, length, width), *feed_forward(rows * length, width))
    return together(*block * (model.blocks - 1), *feed_forward(rows, width))


def feed_forward(positions: int, width: int) -> tuple[Step, ...]:
    """Linear d -> 4d and back, and the exponentials between them, in pieces that stay in cache."""
    return linear(positions, width, 4 * width), linear(positions, 4 * width, width), powers(positions * 4 * width)


def powers(n: int) -> Step:
    """Two exponentials for each of n elements."""
    x = torch.zeros(min(n, 1 << 18))
    y = torch.empty_like(x)

    def once() -> None:
        for _ in range(2 * n // len(x)):
            torch.exp(x, out=y)

    return once


def transforms(rows: int, length: int, width: int) -> Step:
    """There and back, and the same for the gradient."""
    x, there = torch.randn(rows, length, width), torch.randn(2 * (length // 2 + 1), length)
    spectrum, y = torch.empty(rows, len(there), width), torch.empty_like(x)

    def once() -> None:
        for _ in range(2):
            torch.matmul(there, x, out=spectrum)
            torch.matmul(there.T, spectrum, out=y)

    return once
