"""Products that several floors are made of."""

from collections.abc import Callable

import torch

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
