"""Totals of a step's batches under item weights, and their gradients: what an update rule evaluates."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.optim.rule import Gradients, added


class Objective(Protocol):
    """What is used of a ``Recommender``."""

    @property
    def n_items(self) -> int: ...

    def begin_step(self) -> None: ...

    def batch_losses(self, batch: Batch, item_weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]: ...


class StepClosure:
    """Sums over the batches of a step, evaluated one after the other, so that one batch's graph is held at a time.

    Parameters
    ----------
    objective, parameters
        The recommender, and those whose gradients are given.
    batches
        Of the step; one without targets adds zeros, which other processes wait for.
    shares
        Factors of the batches' totals; None for ones.
    backward
        How the gradients of a total come into ``.grad``: scaled, or exchanged between processes.
    """

    def __init__(
        self,
        objective: Objective,
        parameters: Sequence[torch.nn.Parameter],
        batches: Sequence[Batch],
        shares: Sequence[float] | None = None,
        backward: Callable[..., None] = Tensor.backward,
    ) -> None:
        self._objective, self._parameters, self._batches = objective, parameters, batches
        self._shares = [1.0] * len(batches) if shares is None else shares
        self._backward = backward

    def targets(self) -> Tensor:
        """Item ids of the targets of all batches, those of other processes too."""
        mine = torch.cat([batch.targets for batch in self._batches])
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return mine
        present = torch.zeros(self._objective.n_items, dtype=torch.uint8, device=mine.device).index_fill_(0, mine, 1)
        dist.all_reduce(present, dist.ReduceOp.MAX)
        return present.nonzero().squeeze(1)

    def __call__(self, item_weights: Tensor | None, /) -> tuple[Tensor, list[Gradients]]:
        """Totals [W], detached, and the gradients of each under item weights [W, I] (None: one row of ones)."""
        sums: list[Gradients] = []
        known = None
        self._objective.begin_step()
        for number, (batch, share) in enumerate(zip(self._batches, self._shares, strict=True), start=1):
            if len(batch.targets):
                totals = self._objective.batch_losses(batch, item_weights)[0] * share
            else:
                zero = torch.as_tensor(sum(p.sum() for p in self._parameters) * 0.0)
                totals = zero.expand(1 if item_weights is None else len(item_weights))
            known = totals.detach() if known is None else known + totals.detach()
            for row, total in enumerate(totals.unbind(), start=1):
                self._forget()
                # What ``begin_step`` computed is in the graphs of all rows and batches.
                self._backward(total, retain_graph=row < len(totals) or number < len(self._batches))
                found: Gradients = [p.grad for p in self._parameters]
                if row <= len(sums):
                    sums[row - 1] = added(sums[row - 1], found)
                else:
                    sums.append(found)
            del totals, total  # the batch's graph, before the next one is made
        self._forget()
        assert known is not None, "a step without a batch"
        return known, sums

    def _forget(self) -> None:
        for p in self._parameters:
            p.grad = None
