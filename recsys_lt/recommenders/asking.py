"""What an update rule may ask about the batches of a step, answered by autograd."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from recsys_lt.optim.rule import Ask, Gradients, added


class Backward(Protocol):
    """Adds the gradient of a scalar to the parameters' ``.grad``."""

    def __call__(self, total: Tensor, /, *, retain_graph: bool = False) -> None:
        """``retain_graph`` if another total of the same evaluation is to come."""


# Item weights [W, I] (None: one row of ones) -> totals [W], differentiable.
Evaluate = Callable[[Tensor | None], Tensor]


def _plain_backward(total: Tensor, /, *, retain_graph: bool = False) -> None:
    total.backward(retain_graph=retain_graph)


def asking(
    parameters: Sequence[torch.nn.Parameter],
    evaluations: Sequence[Evaluate],
    backward: Backward = _plain_backward,
) -> Ask:
    """Answer with the sums over some batches, evaluated one after the other, so that one graph is held at a time.

    Parameters
    ----------
    parameters
        Whose gradients are given.
    evaluations
        One a batch, each weighed by its part in the step.
    backward
        How gradients come into ``.grad``: scaled, or exchanged between processes.
    """

    def ask(weights: Tensor | None) -> tuple[Tensor, list[Gradients]]:
        sums: list[Gradients] = []
        known: Tensor | None = None
        for evaluate in evaluations:
            totals = evaluate(weights)
            known = totals.detach() if known is None else known + totals.detach()
            for row, total in enumerate(totals.unbind()):
                for p in parameters:
                    p.grad = None
                backward(total, retain_graph=row + 1 < len(totals))
                found: Gradients = [p.grad for p in parameters]
                if row < len(sums):
                    sums[row] = added(sums[row], found)
                else:
                    sums.append(found)
        for p in parameters:
            p.grad = None
        assert known is not None, "a step without a batch"
        return known, sums

    return ask
