import pytest
import torch
from loss_cases import random_case

from recsys_lt.losses.ce import CE
from recsys_lt.losses.logit_adjusted import LogitAdjustedCE, LogitAdjustedSCE
from recsys_lt.losses.sampled_losses import SCE

COUNTS = torch.tensor([40, 9, 3, 1, 0, 7, 7, 2, 1])
PAIRS = {
    "ce": (lambda tau: LogitAdjustedCE(tau=tau), CE()),
    "sce": (lambda tau: LogitAdjustedSCE(4, 30.0, "unseen", tau=tau), SCE(4, 30.0, "unseen")),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", PAIRS)
def test_it_is_the_loss_of_shifted_scores(name, bias):
    case = random_case(3, bias=bias)
    adjusted, loss = PAIRS[name]
    adjusted = adjusted(1.5)
    adjusted.prepare(COUNTS)
    shift = 1.5 * (COUNTS.double().clamp(min=1) / COUNTS.sum()).log()
    states, weight = (x.requires_grad_() for x in (case.states, case.weight))
    answers = []
    for one, table in (
        (adjusted, case.table),
        (loss, case.table._replace(bias=shift if case.bias is None else case.bias + shift)),
    ):
        total, losses = one(states, case.targets, table, None, case.draw)
        answers.append((losses, *torch.autograd.grad(total[0], (states, weight))))
    for mine, expected in zip(*answers, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)  # the shift is float32


@pytest.mark.parametrize("name", PAIRS)
def test_without_adjustment_it_is_the_loss(name):
    case = random_case(4)
    adjusted, loss = PAIRS[name]
    adjusted = adjusted(0.0)
    adjusted.prepare(COUNTS)
    arguments = (case.states, case.targets, case.table, None, case.draw)
    for one, other in zip(adjusted(*arguments), loss(*arguments), strict=True):
        torch.testing.assert_close(one, other)


def test_frequent_items_must_be_scored_higher():
    """At equal scores the gradient lowers a frequent item more than a rare one."""
    loss = LogitAdjustedCE(tau=1.0)
    loss.prepare(COUNTS)
    case = random_case(5, bias=False)
    weight = torch.ones_like(case.weight).requires_grad_()
    total, _ = loss(
        torch.ones(1, weight.shape[1], dtype=weight.dtype), torch.tensor([8]), case.table._replace(weight=weight)
    )
    (gradient,) = torch.autograd.grad(total[0], weight)
    assert gradient[0, 0] > gradient[1, 0] > gradient[2, 0] > 0


def test_what_is_refused():
    case = random_case(1)
    with pytest.raises(RuntimeError, match="prepare"):
        LogitAdjustedCE()(case.states, case.targets, case.table)
