"""A small softmax problem and its gradient closure."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lt.optim.rule import GradientClosure, UpdateRule
from recsys_lt.recommenders.step_closure import StepClosure

ADAM = partial(torch.optim.Adam, fused=True)
ADAMW = partial(torch.optim.AdamW, fused=True)
ITEMS = 9
COUNTS = torch.tensor([50, 20, 20, 9, 5, 3, 2, 1, 0])


class ToyBatch(NamedTuple):
    """Targets, and totals as a function of item weights."""

    targets: Tensor
    totals: Callable[[Tensor | None], Tensor]


class _Objective:
    n_items = ITEMS

    def begin_step(self) -> None:
        pass

    def batch_losses(self, batch: ToyBatch, weights: Tensor | None = None) -> tuple[Tensor, None, None]:
        return batch.totals(weights), None, None


def closure(parameters: list[nn.Parameter], *batches: ToyBatch) -> GradientClosure:
    return StepClosure(_Objective(), parameters, batches)


class Problem(nn.Module):
    """States of an encoder against a table with bias; each batch has targets of frequent and of rare items."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.encoder = nn.Parameter(torch.randn(4, 3, generator=random, dtype=torch.float64))
        self.table = nn.Parameter(torch.randn(ITEMS, 3, generator=random, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(ITEMS, generator=random, dtype=torch.float64) / 4)
        self.inputs = torch.randn(6, 20, 4, generator=random, dtype=torch.float64)
        self.targets = torch.randint(0, ITEMS - 1, (6, 20), generator=random)

    def totals(self, weights: Tensor | None, step: int = 0) -> Tensor:
        y = self.targets[step % len(self.targets)]
        logits = self.inputs[step % len(self.inputs)] @ self.encoder @ self.table.T + self.bias
        losses = F.cross_entropy(logits, y, reduction="none")
        rows = torch.ones(1, ITEMS) if weights is None else weights
        return rows.to(losses.dtype)[:, y] @ losses / len(losses)


def prepared(rule: UpdateRule, problem: Problem) -> UpdateRule:
    rule.prepare(dict(problem.named_parameters()), [problem.table, problem.bias], COUNTS)
    return rule


def about(problem: Problem, *steps: int) -> GradientClosure:
    """The closure of some batches."""
    batches = (
        ToyBatch(problem.targets[step % len(problem.targets)], lambda weights, s=step: problem.totals(weights, s))
        for step in steps
    )
    return closure(list(problem.parameters()), *batches)


def gradients(rule: UpdateRule, problem: Problem, *steps: int) -> list[Tensor]:
    """What a rule makes of some batches, the first if none is named."""
    found = rule.gradients(about(problem, *(steps or (0,))))[1]
    return [g.clone() for g in found]


def trained(make: Callable[[], UpdateRule], problem: Problem, steps: int = 10) -> Problem:
    """A copy of the problem after so many steps."""
    problem = deepcopy(problem)
    rule = prepared(make(), problem)
    optimizer = rule.build(problem.parameters())
    for step in range(steps):
        for p, gradient in zip(problem.parameters(), gradients(rule, problem, step), strict=True):
            p.grad = gradient
        optimizer.step()
    return problem


def assert_same(one: Problem, other: Problem, exactly: bool = False) -> None:
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        if exactly:
            assert torch.equal(a, b)
        else:
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)  # item weights are float32
