"""CE-eta and CE-n against their formulas, their limits, and what they bound."""

import math
from dataclasses import dataclass
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.losses.ce import CE
from recsys_lt.losses.output_table import OutputTable
from studies.ce_sce.losses import CEN, CEEta

seeds = st.integers(0, 2**31)
some = settings(deadline=None, max_examples=20)


@dataclass
class Case:
    """Twenty states and targets (two blocks of the smallest size), an output table, and weights [3, 20]."""

    states: Tensor
    targets: Tensor
    table: OutputTable
    weights: Tensor

    def scores(self) -> Tensor:
        return self.states @ self.table.weight.T + self.table.bias


def made(seed: int, n_items: int = 9, ties: bool = False) -> Case:
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        if ties:  # whole numbers: products are exact, and many of them equal
            return torch.randint(-1, 2, shape, generator=generator).double()
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    table = OutputTable(numbers(n_items, 4).requires_grad_(), numbers(n_items).requires_grad_())
    targets = torch.randint(0, n_items, (20,), generator=generator)
    weights = torch.rand(3, 20, generator=generator, dtype=torch.float64)
    return Case(numbers(20, 4).requires_grad_(), targets, table, weights)


def answer(loss, case: Case) -> list[Tensor]:
    """Totals, losses, and the gradients of a mixture of the totals."""
    with mock.patch("recsys_lt.losses.blocks._CPU_BLOCK", 1):
        totals, losses = loss(case.states, case.targets, case.table, case.weights)
    mixture = torch.tensor([0.7, -1.3, 2.1], dtype=totals.dtype)
    leaves = (case.states, case.table.weight, case.table.bias)
    return [totals.detach(), losses, *torch.autograd.grad((totals * mixture).sum(), leaves)]


def ce_eta(eta):
    def loss(scores, target):
        own = scores[target]
        return math.log(sum(math.exp(s - own) for s in scores if s >= own - eta * abs(own)))

    return loss


def ce_n(n):
    def loss(scores, target):
        own = scores[target]
        rank = sum(s >= own for s in scores)
        return math.log(sum(math.exp(s) for s in sorted(scores)[-max(n, rank) :])) - own

    return loss


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        (CEEta(0.0), ce_eta(0.0)),
        (CEEta(0.7), ce_eta(0.7)),
        (CEEta(4.0), ce_eta(4.0)),
        (CEN(1), ce_n(1)),
        (CEN(4), ce_n(4)),
        (CEN(9), ce_n(9)),
    ],
)
@given(seed=seeds)
@some
def test_formulas(loss, formula, seed):
    case = made(seed)
    expected = torch.tensor(
        [formula(s, t) for s, t in zip(case.scores().tolist(), case.targets.tolist(), strict=True)],
        dtype=torch.float64,
    )
    totals, losses, *_ = answer(loss, case)
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(totals, case.weights @ expected / 20)


@pytest.mark.parametrize("loss", [CEEta(1e6), CEN(9)])
@given(seed=seeds)
@some
def test_over_all_items_they_are_cross_entropy(loss, seed):
    case = made(seed)
    torch.testing.assert_close(answer(loss, case), answer(CE(), case))


def metric_bounds(case: Case) -> tuple[Tensor, Tensor]:
    """-log NDCG and -log MRR of each target's pessimistic rank, [N]."""
    scores = case.scores()
    rank = (scores >= scores.gather(1, case.targets.unsqueeze(1))).sum(1).double()
    return torch.log2(1 + rank).log(), rank.log()


@given(seed=seeds, ties=st.booleans(), n_items=st.integers(1, 30))
@some
def test_ce_eta_zero_is_between_mrr_and_cross_entropy(seed, ties, n_items):
    case = made(seed, n_items, ties)
    ndcg, mrr = metric_bounds(case)
    tight, wider, whole = (loss(case.states, case.targets, case.table)[1] for loss in (CEEta(0.0), CEEta(0.5), CE()))
    for low, high in ((ndcg, mrr), (mrr, tight), (tight, wider), (wider, whole)):
        assert (low <= high + 1e-9).all()


@given(seed=seeds, ties=st.booleans(), n_items=st.integers(1, 30), n=st.integers(1, 30))
@some
def test_proposition_1(seed, ties, n_items, n):
    """-log NDCG <= -log MRR <= CE-n for any n, growing with n."""
    n = min(n, n_items)
    case = made(seed, n_items, ties)
    ndcg, mrr = metric_bounds(case)
    losses = (CEN(n), CEN(min(n + 3, n_items)))
    truncated, wider = (loss(case.states, case.targets, case.table)[1] for loss in losses)
    for low, high in ((ndcg, mrr), (mrr, truncated), (truncated, wider)):
        assert (low <= high + 1e-9).all()


@pytest.mark.parametrize("eta", [0.0, 0.3])
def test_items_left_out_get_no_gradient_and_are_not_covered(eta):
    case = made(5, 30)
    case.states, case.targets, case.weights = case.states[:1], case.targets[:1], case.weights[:, :1]
    scores = case.scores()[0]
    own = scores[case.targets]
    left_out = scores < own - eta * own.abs()
    assert 0 < left_out.sum() < 29
    gradient = answer(CEEta(eta), case)[-1]
    assert not gradient[left_out].any()
    assert gradient[~left_out].all()
    covered = ~left_out
    covered[case.targets] = False  # a target is no negative of its own
    assert torch.equal(CEEta(eta).covered(case.states, case.targets, case.table), covered)


def test_ce_eta_zero_keeps_what_is_below_the_target_by_the_published_slack():
    weight = torch.tensor([[1.0], [1.0 - 5e-9], [1.0 - 5e-8], [1.0 + 5e-9]], dtype=torch.float64)
    _, losses = CEEta(0.0)(torch.ones(1, 1, dtype=torch.float64), torch.tensor([0]), OutputTable(weight))
    assert losses.item() == pytest.approx(math.log(3), abs=1e-7)


def test_no_targets():
    case = made(1)
    totals, losses = CEEta()(case.states[:0], case.targets[:0], case.table, case.weights[:, :0])
    assert not totals.any()
    assert len(losses) == 0


def test_settings_that_make_no_loss():
    for eta in (-0.1, float("nan")):
        with pytest.raises(UserError, match="at least 0"):
            CEEta(eta)
    assert CEEta().eta == 0.7
    with pytest.raises(UserError, match="positive"):
        CEN(0)
    CEN(5).check(5)
    with pytest.raises(UserError, match=r"loss\.n=5"):
        CEN(6).check(5)
