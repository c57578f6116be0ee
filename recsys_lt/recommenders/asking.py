"""What an update rule may ask about the batches of a step, answered by autograd."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from recsys_lt.optim.rule import Gradients, added


class Backward(Protocol):
    """Adds the gradient of a scalar to the parameters' ``.grad``."""

    def __call__(self, total: Tensor, /, *, retain_graph: bool = False) -> None:
        """``retain_graph`` if another total of the same evaluation is to come."""


# Item weights [W, I] (None: one row of ones) -> totals [W], differentiable.
Evaluate = Callable[[Tensor | None], Tensor]


def _plain_backward(total: Tensor, /, *, retain_graph: bool = False) -> None:
    total.backward(retain_graph=retain_graph)


class Asking:
    """Answers with the sums over some batches, evaluated one after the other, so that one graph is held at a time.

    Parameters
    ----------
    parameters
        Whose gradients are given.
    evaluations
        One a batch, each weighed by its part in the step.
    targets
        The batches' targets, over all processes: item ids.
    backward
        How gradients come into ``.grad``: scaled, or exchanged between processes.
    """

    def __init__(
        self,
        parameters: Sequence[torch.nn.Parameter],
        evaluations: Sequence[Evaluate],
        targets: Callable[[], Tensor],
        backward: Backward = _plain_backward,
    ) -> None:
        self._parameters, self._evaluations = parameters, evaluations
        self.targets, self._backward = targets, backward

    def __call__(self, weights: Tensor | None, /) -> tuple[Tensor, list[Gradients]]:
        """See ``Ask``."""
        sums: list[Gradients] = []
        known: Tensor | None = None
        for evaluate in self._evaluations:
            totals = evaluate(weights)
            known = totals.detach() if known is None else known + totals.detach()
            for row, total in enumerate(totals.unbind()):
                self._forget()
                self._backward(total, retain_graph=row + 1 < len(totals))
                found: Gradients = [p.grad for p in self._parameters]
                if row < len(sums):
                    sums[row] = added(sums[row], found)
                else:
                    sums.append(found)
        self._forget()
        assert known is not None, "a step without a batch"
        return known, sums

    def _forget(self) -> None:
        for p in self._parameters:
            p.grad = None
