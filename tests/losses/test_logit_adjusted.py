import pytest
import torch
from loss_cases import random_case

from recsys_lt.errors import UserError
from recsys_lt.losses.ce import CE
from recsys_lt.losses.logit_adjusted import LogitAdjustedCE

COUNTS = torch.tensor([40, 9, 3, 1, 0, 7, 7, 2, 1])


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_cross_entropy_of_shifted_scores(bias):
    case = random_case(3, bias=bias)
    loss = LogitAdjustedCE(1.5)
    loss.prepare(COUNTS)
    states, weight = (x.requires_grad_() for x in (case.states, case.weight))
    total, losses = loss(states, case.targets, case.table)
    shifted = case.scores() + 1.5 * (COUNTS.clamp(min=1) / COUNTS.sum()).log()
    expected = torch.nn.functional.cross_entropy(shifted, case.targets, reduction="none")
    torch.testing.assert_close(losses, expected.detach(), rtol=1e-6, atol=1e-6)
    for one, other in zip(
        torch.autograd.grad(total[0], (states, weight)),
        torch.autograd.grad(expected.mean(), (states, weight)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)  # the shift is float32


def test_without_adjustment_it_is_cross_entropy():
    case = random_case(4)
    loss = LogitAdjustedCE(0.0)
    loss.prepare(COUNTS)
    for one, other in zip(
        loss(case.states, case.targets, case.table), CE()(case.states, case.targets, case.table), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_frequent_items_must_be_scored_higher():
    """At equal scores the gradient lowers a frequent item more than a rare one."""
    loss = LogitAdjustedCE(1.0)
    loss.prepare(COUNTS)
    case = random_case(5, bias=False)
    weight = torch.ones_like(case.weight).requires_grad_()
    total, _ = loss(
        torch.ones(1, weight.shape[1], dtype=weight.dtype), torch.tensor([8]), case.table._replace(weight=weight)
    )
    (gradient,) = torch.autograd.grad(total[0], weight)
    assert gradient[0, 0] > gradient[1, 0] > gradient[2, 0] > 0


def test_what_is_refused():
    with pytest.raises(UserError, match=r"loss\.tau"):
        LogitAdjustedCE(float("nan"))
    case = random_case(1)
    with pytest.raises(RuntimeError, match="prepare"):
        LogitAdjustedCE()(case.states, case.targets, case.table)
