"""GRU4Rec: the gates' products, those of the inputs at once, those of the states step by step; and the dense layer."""

from typing import Any

import torch

from recsys_lt.backbones.gru4rec import time_major
from recsys_lt.data.batch import Batch
from studies.speed.floors.parts import Step, linear, together


def products(model: Any, batch: Batch) -> Step:
    """A step's products for ``model``, the configuration's, on ``batch``."""
    width, running = model.width, time_major(batch)[1]
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
