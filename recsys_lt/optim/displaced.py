"""Parameters somewhere else for a while."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def displaced(parameters: Sequence[torch.nn.Parameter], steps: Sequence[Tensor]) -> Iterator[None]:
    """Each parameter moved by its step inside, and put back bit for bit; the steps are let go once they are taken."""
    kept = [p.detach().clone() for p in parameters]
    try:
        with torch.no_grad():
            for p, step in zip(parameters, steps, strict=True):
                p.add_(step)
        del steps, step  # the next gradients take their memory
        yield
    finally:
        with torch.no_grad():
            for p, was in zip(parameters, kept, strict=True):
                p.copy_(was)  # w + e - e is not w
