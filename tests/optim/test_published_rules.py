"""Sharpness-aware rules against the published procedures written down, and against an independent library."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from recsys_lt.optim.eisam import EISAM
from recsys_lt.optim.perturbations import Adaptive
from recsys_lt.optim.sam import SAM, FocalSAM, ImbSAM
from tests.optim.problems import (
    ADAM,
    COUNTS,
    ITEMS,
    Problem,
    ToyBatch,
    assert_same,
    closure,
    gradients,
    prepared,
    trained,
)


def test_sam_is_that_of_an_independent_library():
    library = pytest.importorskip("pytorch_optimizer", reason="pytorch-optimizer is not installed (dev extra)")
    ours, theirs = Problem(), Problem()
    ours = trained(lambda: SAM(ADAM, 0.01, 0.1, rho=0.3), ours)
    optimizer = library.SAM(theirs.parameters(), torch.optim.Adam, rho=0.3, lr=0.01, weight_decay=0.1)
    for step in range(10):
        optimizer.zero_grad()
        theirs.totals(None, step)[0].backward()
        optimizer.first_step(zero_grad=True)
        theirs.totals(None, step)[0].backward()
        optimizer.second_step(zero_grad=True)
    assert_same(ours, theirs)


def test_focal_sam_is_the_published_procedure():
    """The code's three steps, written down on their own."""
    problem = Problem()
    found = gradients(prepared(FocalSAM(ADAM, 0.01, rho=0.3, lam=0.7, gamma=3), problem), problem)
    coefficients = (0.7 * (1 - COUNTS.double() / COUNTS.sum()) ** 3).unsqueeze(0)
    parameters = list(problem.parameters())

    def by(weights):
        return torch.autograd.grad(problem.totals(weights)[0], parameters)

    standing, ascent = by(1 - coefficients), by(coefficients)
    norm = torch.cat([g.flatten() for g in ascent]).norm()
    with torch.no_grad():
        for p, g in zip(parameters, ascent, strict=True):
            p += 0.3 * g / norm
    for found_one, s, r in zip(found, standing, by(coefficients), strict=True):
        torch.testing.assert_close(found_one, s + r, rtol=1e-5, atol=1e-7)  # weights are float32


def test_the_toy_quadratic():
    """J(w) of w' H w / 2: its gradient is H w + lam (H (w + e) - H w)."""
    hessian = torch.diag(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64))
    w = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    rule = EISAM(ADAM, 0.01, rho=0.3, lam=0.6, weighting="uniform")
    rule.prepare({"w": w}, [], torch.ones(5))
    batch = ToyBatch(torch.zeros(1), lambda weights: weights[:, 0].double() * (w @ hessian @ w) / 2)
    _, (found,) = rule.gradients(closure([w], batch))
    at = w.detach()
    gradient = hessian @ at
    uphill = hessian @ (at + 0.3 * gradient / gradient.norm())
    torch.testing.assert_close(found, gradient + 0.6 * (uphill - gradient), rtol=1e-5, atol=1e-7)


def gradients_uphill(problem, steps, weights):
    """Gradients of the weighted total where the steps lead, by autograd alone."""
    moved = deepcopy(problem)
    with torch.no_grad():
        for p, step in zip(moved.parameters(), steps, strict=True):
            p.add_(step)
    return torch.autograd.grad(moved.totals(weights)[0], list(moved.parameters()))


def test_imbsam_is_the_published_procedure():
    """The frequent items' gradient here, and twice the rare ones' uphill of theirs: all written out."""
    problem = Problem()
    popular = torch.zeros(ITEMS)
    popular[COUNTS.argsort(descending=True, stable=True)[: round(0.2 * ITEMS)]] = 1
    rare = (1 - popular).unsqueeze(0)
    ascent = torch.autograd.grad(problem.totals(rare)[0], list(problem.parameters()))
    length = torch.stack([g.norm() for g in ascent]).norm()
    uphill = gradients_uphill(problem, [0.3 * g / length for g in ascent], 2 * rare)
    here = torch.autograd.grad(problem.totals(popular.unsqueeze(0))[0], list(problem.parameters()))
    found = gradients(prepared(ImbSAM(ADAM, 0.01, rho=0.3, c=2.0), problem), problem)
    for one, still, risen in zip(found, here, uphill, strict=True):
        torch.testing.assert_close(one, still + risen)


def test_asams_step_is_the_published_one():
    """e = rho T^2 g / |T g| with T = |w| + eta for weights and 1 for biases."""
    random = torch.Generator().manual_seed(2)
    weight, bias, by_weight, by_bias = (torch.randn(5, generator=random) for _ in range(4))
    size = weight.abs() + 0.05
    length = torch.cat([size * by_weight, by_bias]).norm()
    found = Adaptive(0.7, 0.05, [True, False]).steps([weight, bias], [by_weight.clone(), by_bias.clone()], torch.Tensor)
    torch.testing.assert_close(found[0], 0.7 * size**2 * by_weight / length)
    torch.testing.assert_close(found[1], 0.7 * by_bias / length)
