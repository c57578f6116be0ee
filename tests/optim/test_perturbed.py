"""Sharpness-aware rules: what they have in common, and what tells them apart."""

import weakref
from copy import deepcopy

import pytest
import torch

from recsys_lt.errors import UserError
from recsys_lt.optim.adam import Adam, AdamW
from recsys_lt.optim.balls import Adaptive, PerTensor, Rows, Shared
from recsys_lt.optim.eisam import EISAM
from recsys_lt.optim.focal_sam import FocalSAM
from recsys_lt.optim.imbsam import ImbSAM
from recsys_lt.optim.reweighted import Reweighted
from recsys_lt.optim.sam import ASAM, SAM
from recsys_lt.optim.weighting import Weighting
from recsys_lt.recommenders.asking import Asking
from tests.optim.problems import COUNTS, Problem, about, assert_same, gradients, prepared, trained

RULES = {
    "sam": lambda: SAM(0.01),
    "sam tensor": lambda: SAM(0.01, scale="tensor"),
    "asam": lambda: ASAM(0.01),
    "imbsam": lambda: ImbSAM(0.01),
    "focal_sam": lambda: FocalSAM(0.01),
    "eisam": lambda: EISAM(0.01),
    "eisam stale": lambda: EISAM(0.01, form="stale"),
    "eisam rowwise": lambda: EISAM(0.01, form="rowwise"),
    "eisam rowwise all": lambda: EISAM(0.01, form="rowwise", rows="all"),
    "eisam table": lambda: EISAM(0.01, perturb="table"),
    "eisam encoder every": lambda: EISAM(0.01, perturb="encoder", every=2),
}


@pytest.mark.parametrize(("base", "plain"), [("adam", Adam), ("adamw", AdamW)])
def test_without_sharpness_it_is_the_base_bit_for_bit(base, plain):
    problem = Problem()
    eisam = trained(lambda: EISAM(0.01, 0.1, base=base, lam=0), problem)
    assert_same(eisam, trained(lambda: plain(0.01, 0.1), problem), exactly=True)


@pytest.mark.parametrize("perturb", ["all", "table", "encoder"])
@pytest.mark.parametrize("scale", ["none", "tensor"])
def test_uniform_weights_are_sam(perturb, scale):
    problem = Problem()
    eisam = trained(lambda: EISAM(0.01, rho=0.3, weighting="uniform", perturb=perturb, scale=scale), problem)
    assert_same(eisam, trained(lambda: SAM(0.01, rho=0.3, perturb=perturb, scale=scale), problem))
    with pytest.raises(AssertionError):
        assert_same(eisam, trained(lambda: Adam(0.01), problem))


def test_step_weights_are_imbsam():
    problem = Problem()
    eisam = trained(lambda: EISAM(0.01, rho=0.3, weighting="step", normalise=False), problem)
    assert_same(eisam, trained(lambda: ImbSAM(0.01, rho=0.3, c=1), problem))


def test_focal_weights_are_focal_sam():
    problem = Problem()
    eisam = trained(lambda: EISAM(0.01, rho=0.3, lam=0.7, weighting="focal", gamma=3, normalise=False), problem)
    assert_same(eisam, trained(lambda: FocalSAM(0.01, rho=0.3, lam=0.7, gamma=3), problem))


@pytest.mark.parametrize("name", RULES)
def test_parameters_are_put_back_bit_for_bit(name):
    problem = Problem()
    before = deepcopy(problem)
    rule = prepared(RULES[name](), problem)
    for step in range(3):
        gradients(rule, problem, step)
    assert_same(problem, before, exactly=True)


@pytest.mark.parametrize("name", RULES)
def test_about_several_batches_it_is_exact(name):
    """Two passes over the batches of a step, one after the other: as if they were one batch."""
    problem, together = Problem(), Problem()
    one_batch = Asking(
        list(together.parameters()),
        [lambda weights: sum(together.totals(weights, step) for step in range(3))],
        lambda: together.targets[:3].flatten(),
    )
    expected = prepared(RULES[name](), together).gradients(one_batch)
    total, found = prepared(RULES[name](), problem).gradients(about(problem, 0, 1, 2))
    torch.testing.assert_close(total, expected[0])
    for one, other in zip(found, expected[1], strict=True):
        torch.testing.assert_close(one, other)
    apart = [gradients(prepared(RULES[name](), problem), problem, step) for step in range(3)]
    sums = [sum(parts) for parts in zip(*apart, strict=True)]
    # Each uphill of its own gradient is something else.
    assert not all(torch.allclose(one, other) for one, other in zip(found, sums, strict=True))


@pytest.mark.parametrize("name", RULES)
def test_what_it_returns_is_the_plain_total(name):
    problem = Problem()
    rule = prepared(RULES[name](), problem)
    total, _ = rule.gradients(about(problem, 0))
    assert not total.requires_grad
    torch.testing.assert_close(total, problem.totals(None)[0].detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", RULES)
def test_the_way_up_is_let_go_before_the_next_gradients(name):
    problem = Problem()
    rule = prepared(RULES[name](), problem)
    answer, ways_up, alive = about(problem, 0), [], []

    class Watching:
        targets = staticmethod(answer.targets)

        def __call__(self, weights):
            alive.append(sum(way() is not None for way in ways_up))
            totals, found = answer(weights)
            ways_up.extend(weakref.ref(gradient) for gradient in found[-1])
            return totals, found

    rule.gradients(Watching())
    assert len(ways_up) == 6
    assert alive == [0, 0]


@pytest.mark.parametrize("name", RULES)
def test_uphill_the_loss_is_higher(name):
    problem = Problem()
    rule = prepared(RULES[name](), problem)
    seen = []

    def evaluate(weights):
        seen.append([p.detach().clone() for p in problem.parameters()])
        return problem.totals(weights)

    rule.gradients(Asking(list(problem.parameters()), [evaluate], lambda: problem.targets[0]))
    here, uphill = seen[0], seen[-1]
    moved = [not torch.equal(a, b) for a, b in zip(here, uphill, strict=True)]
    expected = {"table": [False, True, True], "encoder": [True, False, False]}
    assert moved == next((which for word, which in expected.items() if word in name), [True, True, True])
    weights = rule.item_weights if isinstance(rule, EISAM) else rule.rare if isinstance(rule, ImbSAM) else None
    if weights is not None:
        weights = weights.unsqueeze(0)
    at = problem.totals(weights)[0]
    with torch.no_grad():
        for p, there in zip(problem.parameters(), uphill, strict=True):
            p.copy_(there)
    assert problem.totals(weights)[0] > at


def test_radii():
    torch.manual_seed(0)
    parameters, ascents = ([torch.randn(7, 3), torch.randn(5)] for _ in range(2))

    def steps(ball):
        return ball.steps(parameters, [g.clone() for g in ascents], lambda: torch.tensor([4, 0, 4]))

    def norm(tensors):
        return float(torch.cat([t.flatten() for t in tensors]).norm())

    assert norm(steps(Shared(0.7))) == pytest.approx(0.7)
    for p, step in zip(parameters, steps(PerTensor(0.7)), strict=True):
        assert norm([step]) == pytest.approx(0.7 * norm([p]))
    adaptive = Adaptive(0.7, 0.01, [True, False])
    scaled = [step / scale for step, scale in zip(steps(adaptive), (parameters[0].abs() + 0.01, 1), strict=True)]
    assert norm(scaled) == pytest.approx(0.7)
    weights = torch.linspace(0.5, 2, 7)
    for relative, sizes in ((False, torch.ones(7)), (True, parameters[0].norm(dim=1))):
        rows, rest = steps(Rows(0.7, weights, [True, False], relative, every_row=True))
        torch.testing.assert_close(rows.norm(dim=1), 0.7 * weights * sizes)
        own, _ = steps(Rows(0.7, weights, [True, False], relative))
        assert torch.equal(own[[0, 4]], rows[[0, 4]])
        assert torch.equal(own[[1, 2, 3, 5, 6]], torch.zeros(5, 3))
        assert norm([rest]) == pytest.approx(0.7 * (norm(parameters[1:]) if relative else 1))
    still = Shared(0.7).steps([torch.ones(3)], [torch.zeros(3)], torch.Tensor)
    assert torch.equal(still[0], torch.zeros(3))


def test_a_row_without_gradient_stays():
    gradient = torch.randn(4, 3)
    gradient[2] = 0
    (step,) = Rows(0.7, torch.ones(4), [True], relative=False).steps(
        [torch.ones(4, 3)], [gradient.clone()], lambda: torch.arange(4)
    )
    assert torch.equal(step[2], torch.zeros(3))
    assert (step[[0, 1, 3]] != 0).all()


def test_stale_ascends_along_what_was_found_before():
    problem = Problem()
    rule = prepared(EISAM(0.01, rho=0.3, form="stale"), problem)
    exact = gradients(prepared(EISAM(0.01, rho=0.3), problem), problem)
    first = gradients(rule, problem)
    for one, other in zip(first, exact, strict=True):  # there was nothing before
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    ascent = [g.clone() for g in rule.state_dict()["ascent"]]
    found = gradients(rule, problem, 1)
    weights = rule.item_weights.unsqueeze(0)
    standing = torch.autograd.grad(problem.totals(1 - weights, 1)[0], list(problem.parameters()))
    norm = torch.cat([g.flatten() for g in ascent]).norm()
    with torch.no_grad():
        for p, g in zip(problem.parameters(), ascent, strict=True):
            p += 0.3 * g / norm
    risen = torch.autograd.grad(problem.totals(weights, 1)[0], list(problem.parameters()))
    for one, s, r in zip(found, standing, risen, strict=True):
        torch.testing.assert_close(one, s + r, rtol=1e-5, atol=1e-7)


def test_every_so_many_evaluations_count_so_many_times():
    problem = Problem()
    rule = prepared(EISAM(0.01, rho=0.3, lam=0.5, every=3), problem)
    often = prepared(EISAM(0.01, rho=0.3, lam=1.5), problem)
    plain = prepared(Adam(0.01), problem)
    for step in range(7):
        expected = gradients(often if step % 3 == 0 else plain, problem, step)
        for one, other in zip(gradients(rule, problem, step), expected, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("form", ["stale", "exact"])
def test_it_goes_on_where_it_was(form):
    def make():
        return prepared(EISAM(0.01, form=form, every=2), problem)

    problem = Problem()
    alone = make()
    expected = [gradients(alone, problem, step) for step in range(5)]
    before = make()
    for step in range(3):
        gradients(before, problem, step)
    after = make()
    after.load_state_dict(before.state_dict())
    for step in (3, 4):
        for one, other in zip(gradients(after, problem, step), expected[step], strict=True):
            assert torch.equal(one, other)


def test_reweighting_is_the_weighted_mean():
    problem = Problem()
    found = gradients(prepared(Reweighted(0.01), problem), problem)
    weights = Weighting("power", 1.0, normalise=True)(COUNTS).unsqueeze(0)
    expected = torch.autograd.grad(problem.totals(weights)[0], list(problem.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("base", "plain"), [("adam", Adam), ("adamw", AdamW)])
def test_reweighting_goes_around_either_base(base, plain):
    problem = Problem()
    alike = trained(lambda: Reweighted(0.01, 0.1, base=base, weighting="uniform"), problem)
    assert_same(alike, trained(lambda: plain(0.01, 0.1), problem))


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: SAM(0.01, rho=0), "rho"),
        (lambda: SAM(0.01, rho=float("nan")), "rho"),
        (lambda: SAM(0.01, base="sgd"), "base"),
        (lambda: Reweighted(0.01, base="sgd"), "base"),
        (lambda: SAM(0.01, perturb="some"), "perturb"),
        (lambda: SAM(0.01, scale="big"), "scale"),
        (lambda: SAM(0.01, accumulate="later"), "accumulate"),
        (lambda: SAM(-1), "lr"),
        (lambda: ASAM(0.01, eta=-1), "eta"),
        (lambda: ImbSAM(0.01, c=0), "c"),
        (lambda: FocalSAM(0.01, lam=-1), "lam"),
        (lambda: FocalSAM(0.01, gamma=-1), "gamma"),
        (lambda: EISAM(0.01, lam=-1), "lam"),
        (lambda: EISAM(0.01, form="loose"), "form"),
        (lambda: EISAM(0.01, rows="some"), "rows"),
        (lambda: EISAM(0.01, every=0), "every"),
        (lambda: EISAM(0.01, weighting="heavy"), "weighting"),
        (lambda: EISAM(0.01, gamma=float("inf")), "gamma"),
        (lambda: EISAM(0.01, weighting="focal", gamma=-1), "gamma"),
        (lambda: prepared(EISAM(0.01, form="rowwise", perturb="encoder"), Problem()), "perturb"),
    ],
)
def test_what_is_refused(make, where):
    with pytest.raises(UserError, match=rf"optimizer\.{where}"):
        make()
