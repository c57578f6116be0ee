"""Caser: its convolutions as products, and the dense layer."""

from typing import Any

from recsys_lt.data.batch import Batch
from studies.speed.floors.parts import Step, linear, together


def products(model: Any, batch: Batch) -> Step:
    """A step's products for ``model``, the configuration's, on ``batch``."""
    rows, length, width = len(batch), model.max_length, model.width
    return together(
        linear(rows * width, length, model.vertical),
        # A filter as high as k events meets length - k + 1 stretches of them.
        *(linear(rows * (length - k + 1), k * width, model.horizontal) for k in range(1, length + 1)),
        linear(rows, model.vertical * width + model.horizontal * length, width),
    )
