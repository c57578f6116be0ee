"""FMLP-Rec: transforms there and back, as products, and the feed-forwards; in the last block at the last position.

A real transform of 50 events is cheaper as a product with a fixed matrix than as an FFT. The exponentials are those of
the GELUs: one an element in the forward pass and one in the backward pass.
"""

from typing import Any

import torch

from recsys_lt.data.batch import Batch
from studies.speed.floors.parts import Step, linear, together


def products(model: Any, batch: Batch) -> Step:
    """A step's products for ``model``, the configuration's, on ``batch``."""
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
