"""Random problems for losses, and the ways to evaluate a loss on one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from recsys_lt.data.streams import key_of, keys_of
from recsys_lt.losses.blocks import Evaluation, plain_means
from recsys_lt.losses.ce import CE
from recsys_lt.losses.loss import Draw
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.losses.sampled_losses import BCE, BPR, GBCE, NCE, SCE, SSM
from recsys_lt.losses.softmax_losses import BSL, DSL, PSL, SL, SLAtK

# k, pool and share -> the loss
SAMPLED: dict[str, Callable[..., object]] = {
    "bce": BCE,
    "bpr": BPR,
    "nce": lambda k, pool="all", share="position": NCE(k, 2.5, pool, share),
    "ssm": SSM,
    "sce": lambda k, pool="all", share="position": SCE(k, 30.0, pool, share),
    "gbce": lambda k, pool="all", share="position": GBCE(k, 0.6, pool, share),
    "sl": lambda k, pool="all", share="position": SL(k, 0.8, False, pool, share),
    "bsl": lambda k, pool="all", share="position": BSL(k, 0.8, 1.7, False, pool, share),
    "psl": lambda k, pool="all", share="position": PSL(k, 1.6, "tanh", pool, share),
    "sl_at_k": lambda k, pool="all", share="position": SLAtK(k, 0.8, 0.9, 3, False, pool, share),
    "dsl": lambda k, pool="all", share="position": DSL(k, 0.8, 0.4, -0.7, 0.6, 3, False, pool, share),
}
FULL: dict[str, Callable[[], object]] = {"ce": CE}


@dataclass
class Case:
    """States, targets, an output table, weights [W, N] (or None) and a draw."""

    states: Tensor
    targets: Tensor
    weight: Tensor
    bias: Tensor | None
    weights: Tensor | None
    draw: Draw
    cosine: bool = False

    @property
    def table(self) -> OutputTable:
        return OutputTable(self.weight, self.bias, cosine=self.cosine)

    @property
    def n_items(self) -> int:
        return len(self.weight)

    def scores(self) -> Tensor:
        scores = self.states @ self.weight.T
        return scores if self.bias is None else scores + self.bias


def random_draw(n: int, n_items: int, seed: int) -> Draw:
    """Targets in rows of about three; each row has seen some items, at least one not."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(n) // 3
    sets = []
    for _ in range(-(-n // 3)):
        size = int(torch.randint(0, n_items, (), generator=generator))
        sets.append(torch.randperm(n_items, generator=generator)[:size].sort().values)
    return Draw(
        keys=keys_of(key_of(7, seed), torch.arange(n)),
        step_key=key_of(8, seed),
        rows=rows,
        seen_items=torch.cat([torch.zeros(0, dtype=torch.int64), *sets]),
        seen_offsets=torch.tensor([0, *(len(s) for s in sets)]).cumsum(0),
    )


def random_case(
    seed: int,
    *,
    n: int = 5,
    n_items: int = 9,
    d: int = 4,
    bias: bool = True,
    n_weights: int | None = None,
    ties: bool = False,
) -> Case:
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        if ties:  # whole numbers: products are exact, and many of them equal
            return torch.randint(-1, 2, shape, generator=generator).double()
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = None
    if n_weights is not None:
        weights = torch.rand(n_weights, n, generator=generator, dtype=torch.float64) * 3
        weights[torch.rand(n_weights, n, generator=generator) < 0.3] = 0.0
        weights[-1, : n // 2] = 0.0
    return Case(
        numbers(n, d),
        torch.randint(0, n_items, (n,), generator=generator),
        numbers(n_items, d),
        numbers(n_items) if bias else None,
        weights,
        random_draw(n, n_items, seed),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Up to 40 targets (three blocks of the smallest size), catalogues of one and two items among them."""
    return random_case(
        draw(st.integers(0, 2**31)),
        n=draw(st.sampled_from([1, 2, 16, 17, 40])),
        n_items=draw(st.sampled_from([1, 2, 3, 7, 30])),
        d=draw(st.sampled_from([1, 2, 6])),
        bias=draw(st.booleans()),
        n_weights=draw(st.sampled_from([None, 1, 3])),
        ties=draw(st.booleans()),
    )


@contextmanager
def small_blocks(small: bool = True) -> Iterator[None]:
    """Sixteen rows a block, the least there is."""
    if not small:
        yield
        return
    with mock.patch("recsys_lt.losses.blocks._CPU_BLOCK", 1):
        yield


@dataclass
class Answer:
    """What a loss says: totals, losses, and the gradients of a mixture of the totals."""

    totals: Tensor
    losses: Tensor
    by_states: Tensor
    by_weight: Tensor
    by_bias: Tensor | None


def answer(evaluate: Callable[..., tuple[Tensor, Tensor]], case: Case, with_draw: bool) -> Answer:
    leaves = [case.states, case.weight] + ([] if case.bias is None else [case.bias])
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    table = OutputTable(leaves[1], leaves[2] if case.bias is not None else None, cosine=case.cosine)
    extra = (case.draw,) if with_draw else ()
    totals, losses = evaluate(leaves[0], case.targets, table, case.weights, *extra)
    mixture = torch.tensor([0.7, -1.3, 2.1], dtype=totals.dtype)[: len(totals)]
    gradients = torch.autograd.grad((totals * mixture).sum(), leaves)
    by_bias = gradients[2] if case.bias is not None else None
    return Answer(totals.detach(), losses, gradients[0], gradients[1], by_bias)


def plain(
    loss: Any, states: Tensor, targets: Tensor, table: OutputTable, weights: Tensor | None, draw: Draw | None = None
) -> tuple[Tensor, Tensor]:
    """The textbook form of a loss: all N x I logits, or every negative's vector, at once, gradients by autograd."""
    if draw is None:
        logits = F.linear(states, table.weight, table.bias)
        return plain_means(F.cross_entropy(logits, targets, reduction="none"), weights)
    ids, forbidden = loss.negatives(draw, targets, len(table.weight))
    states = table.read(states)
    ones = states.new_ones(1, len(targets))
    known = loss.known(Evaluation(states, targets, table, ones, False), ids, forbidden)
    ids = ids.expand(len(targets), -1)
    positive = (states * table.weight[targets]).sum(1)
    negative = (states.unsqueeze(1) * table.weight[ids]).sum(2)
    if table.bias is not None:
        positive, negative = positive + table.bias[targets], negative + table.bias[ids]
    if forbidden is not None:
        negative = negative.masked_fill(forbidden, -torch.inf)
    return plain_means(loss.target_losses(positive, negative, len(table.weight), *known), weights)


def assert_same(one: Answer, other: Answer, **tolerance: float) -> None:
    for name in ("totals", "losses", "by_states", "by_weight", "by_bias"):
        a, b = getattr(one, name), getattr(other, name)
        if b is None:
            assert a is None
            continue
        torch.testing.assert_close(a, b, msg=lambda m, n=name: f"{n}: {m}", **(tolerance or _CLOSE))


_CLOSE = {"rtol": 1e-9, "atol": 1e-10}
