"""Sharpness-aware rules: what they have in common, and what tells them apart."""

import weakref
from copy import deepcopy
from functools import partial

import pytest
import torch

from recsys_lt.errors import UserError
from recsys_lt.optim.eisam import EISAM
from recsys_lt.optim.perturbations import Adaptive, Joint, PerItem, PerTensor
from recsys_lt.optim.rule import Plain, Reweighted, UpdateRule
from recsys_lt.optim.sam import ASAM, SAM, FocalSAM, ImbSAM
from recsys_lt.optim.weighting import Weighting
from recsys_lt.training.instantiate import checked
from tests.optim.problems import (
    ADAM,
    ADAMW,
    COUNTS,
    Problem,
    ToyBatch,
    about,
    assert_same,
    closure,
    gradients,
    prepared,
    trained,
)

RULES = {
    "sam": lambda: SAM(ADAM, 0.01),
    "sam tensor": lambda: SAM(ADAM, 0.01, scale="tensor"),
    "asam": lambda: ASAM(ADAM, 0.01),
    "imbsam": lambda: ImbSAM(ADAM, 0.01),
    "focal_sam": lambda: FocalSAM(ADAM, 0.01),
    "eisam": lambda: EISAM(ADAM, 0.01),
    "eisam stale": lambda: EISAM(ADAM, 0.01, form="stale"),
    "eisam rowwise": lambda: EISAM(ADAM, 0.01, form="rowwise"),
    "eisam rowwise all": lambda: EISAM(ADAM, 0.01, form="rowwise", rows="all"),
    "eisam table": lambda: EISAM(ADAM, 0.01, perturb="table"),
    "eisam texts": lambda: EISAM(ADAM, 0.01, perturb=["enco", "bia"]),
    "eisam encoder every": lambda: EISAM(ADAM, 0.01, perturb="encoder", every=2),
}


@pytest.mark.parametrize("base", [ADAM, ADAMW, torch.optim.SGD, torch.optim.NAdam])
def test_without_sharpness_it_is_the_base_bit_for_bit(base):
    problem = Problem()
    eisam = trained(lambda: EISAM(base, 0.01, 0.1, lam=0), problem)
    assert_same(eisam, trained(lambda: Plain(base, 0.01, 0.1), problem), exactly=True)


@pytest.mark.parametrize("perturb", ["all", "table", "encoder"])
@pytest.mark.parametrize("scale", ["none", "tensor"])
def test_uniform_weights_are_sam(perturb, scale):
    problem = Problem()
    eisam = trained(lambda: EISAM(ADAM, 0.01, rho=0.3, weighting="uniform", perturb=perturb, scale=scale), problem)
    assert_same(eisam, trained(lambda: SAM(ADAM, 0.01, rho=0.3, perturb=perturb, scale=scale), problem))
    with pytest.raises(AssertionError):
        assert_same(eisam, trained(lambda: Plain(ADAM, 0.01), problem))


def test_step_weights_are_imbsam():
    problem = Problem()
    eisam = trained(lambda: EISAM(ADAM, 0.01, rho=0.3, weighting="step", normalise=False), problem)
    assert_same(eisam, trained(lambda: ImbSAM(ADAM, 0.01, rho=0.3, c=1), problem))


def test_focal_weights_are_focal_sam():
    problem = Problem()
    eisam = trained(lambda: EISAM(ADAM, 0.01, rho=0.3, lam=0.7, weighting="focal", gamma=3, normalise=False), problem)
    assert_same(eisam, trained(lambda: FocalSAM(ADAM, 0.01, rho=0.3, lam=0.7, gamma=3), problem))


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
    one_batch = closure(
        list(together.parameters()),
        ToyBatch(
            together.targets[:3].flatten(), lambda weights: sum(together.totals(weights, step) for step in range(3))
        ),
    )
    expected = prepared(RULES[name](), together).gradients(one_batch)
    total, found = prepared(RULES[name](), problem).gradients(about(problem, 0, 1, 2))
    torch.testing.assert_close(total, expected[0])
    for one, other in zip(found, expected[1], strict=True):
        torch.testing.assert_close(one, other)
    apart = [gradients(prepared(RULES[name](), problem), problem, step) for step in range(3)]
    sums = [sum(parts) for parts in zip(*apart, strict=True)]
    # Perturbed along each batch's own gradient, they are others.
    assert not all(torch.allclose(one, other) for one, other in zip(found, sums, strict=True))


@pytest.mark.parametrize("name", RULES)
def test_what_it_returns_is_the_plain_total(name):
    problem = Problem()
    rule = prepared(RULES[name](), problem)
    total, _ = rule.gradients(about(problem, 0))
    assert not total.requires_grad
    torch.testing.assert_close(total, problem.totals(None)[0].detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", RULES)
def test_the_ascent_gradients_are_freed_before_the_next_gradients(name):
    problem = Problem()
    rule = prepared(RULES[name](), problem)
    answer, ascents, alive = about(problem, 0), [], []

    class Watching:
        targets = staticmethod(answer.targets)

        def __call__(self, weights):
            alive.append(sum(freed() is not None for freed in ascents))
            totals, found = answer(weights)
            ascents.extend(weakref.ref(gradient) for gradient in found[-1])
            return totals, found

    rule.gradients(Watching())
    assert len(ascents) == 6
    assert alive == [0, 0]


@pytest.mark.parametrize("name", RULES)
def test_the_loss_is_higher_at_the_perturbed_parameters(name):
    problem = Problem()
    rule = prepared(RULES[name](), problem)
    seen = []

    def evaluate(weights):
        seen.append([p.detach().clone() for p in problem.parameters()])
        return problem.totals(weights)

    rule.gradients(closure(list(problem.parameters()), ToyBatch(problem.targets[0], evaluate)))
    here, there = seen[0], seen[-1]
    moved = [not torch.equal(a, b) for a, b in zip(here, there, strict=True)]
    expected = {"table": [False, True, True], "encoder": [True, False, False], "texts": [True, False, True]}
    assert moved == next((which for word, which in expected.items() if word in name), [True, True, True])
    weights = rule.ascent_weights
    if weights is not None:
        weights = weights.unsqueeze(0)
    at = problem.totals(weights)[0]
    with torch.no_grad():
        for p, perturbed in zip(problem.parameters(), there, strict=True):
            p.copy_(perturbed)
    assert problem.totals(weights)[0] > at


def test_radii():
    torch.manual_seed(0)
    parameters, ascents = ([torch.randn(7, 3), torch.randn(5)] for _ in range(2))

    def steps(ball):
        return ball.steps(parameters, [g.clone() for g in ascents], lambda: torch.tensor([4, 0, 4]))

    def norm(tensors):
        return float(torch.cat([t.flatten() for t in tensors]).norm())

    assert norm(steps(Joint(0.7))) == pytest.approx(0.7)
    for p, step in zip(parameters, steps(PerTensor(0.7)), strict=True):
        assert norm([step]) == pytest.approx(0.7 * norm([p]))
    adaptive = Adaptive(0.7, 0.01, [True, False])
    scaled = [step / scale for step, scale in zip(steps(adaptive), (parameters[0].abs() + 0.01, 1), strict=True)]
    assert norm(scaled) == pytest.approx(0.7)
    weights = torch.linspace(0.5, 2, 7)
    for relative, sizes in ((False, torch.ones(7)), (True, parameters[0].norm(dim=1))):
        rows, rest = steps(PerItem(0.7, weights, [True, False], relative, every_item=True))
        torch.testing.assert_close(rows.norm(dim=1), 0.7 * weights * sizes)
        own, _ = steps(PerItem(0.7, weights, [True, False], relative))
        assert torch.equal(own[[0, 4]], rows[[0, 4]])
        assert torch.equal(own[[1, 2, 3, 5, 6]], torch.zeros(5, 3))
        assert norm([rest]) == pytest.approx(0.7 * (norm(parameters[1:]) if relative else 1))
    still = Joint(0.7).steps([torch.ones(3)], [torch.zeros(3)], torch.Tensor)
    assert torch.equal(still[0], torch.zeros(3))


def test_a_row_without_gradient_stays():
    gradient = torch.randn(4, 3)
    gradient[2] = 0
    (step,) = PerItem(0.7, torch.ones(4), [True], relative=False).steps(
        [torch.ones(4, 3)], [gradient.clone()], lambda: torch.arange(4)
    )
    assert torch.equal(step[2], torch.zeros(3))
    assert (step[[0, 1, 3]] != 0).all()


def test_stale_ascends_along_what_was_found_before():
    problem = Problem()
    rule = prepared(EISAM(ADAM, 0.01, rho=0.3, form="stale"), problem)
    exact = gradients(prepared(EISAM(ADAM, 0.01, rho=0.3), problem), problem)
    first = gradients(rule, problem)
    for one, other in zip(first, exact, strict=True):  # there was nothing before
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    ascent = [g.clone() for g in rule.state_dict()["ascent"]]
    found = gradients(rule, problem, 1)
    weights = rule.ascent_weights.unsqueeze(0)
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
    rule = prepared(EISAM(ADAM, 0.01, rho=0.3, lam=0.5, every=3), problem)
    often = prepared(EISAM(ADAM, 0.01, rho=0.3, lam=1.5), problem)
    plain = prepared(Plain(ADAM, 0.01), problem)
    for step in range(7):
        expected = gradients(often if step % 3 == 0 else plain, problem, step)
        for one, other in zip(gradients(rule, problem, step), expected, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("form", ["stale", "exact"])
def test_it_goes_on_where_it_was(form):
    def make():
        return prepared(EISAM(ADAM, 0.01, form=form, every=2), problem)

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
    found = gradients(prepared(Reweighted(ADAM, 0.01), problem), problem)
    weights = Weighting("power", 1.0, normalise=True)(COUNTS).unsqueeze(0)
    expected = torch.autograd.grad(problem.totals(weights)[0], list(problem.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("base", [ADAM, ADAMW])
def test_reweighting_goes_around_either_base(base):
    problem = Problem()
    alike = trained(lambda: Reweighted(base, 0.01, 0.1, weighting="uniform"), problem)
    assert_same(alike, trained(lambda: Plain(base, 0.01, 0.1), problem))


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: SAM("sgd", 0.01), "base"),
        (lambda: SAM(partial(torch.optim.Adam, lr=1), 0.01), "base.lr"),
        (lambda: FocalSAM(ADAM, 0.01, gamma=-1), "gamma"),
        (lambda: EISAM(ADAM, 0.01, weighting="heavy"), "weighting"),
        (lambda: EISAM(ADAM, 0.01, weighting="focal", gamma=-1), "gamma"),
        (lambda: prepared(EISAM(ADAM, 0.01, form="rowwise", perturb="encoder"), Problem()), "perturb"),
        (lambda: prepared(SAM(ADAM, 0.01, perturb=["lora_"]), Problem()), "perturb: .*such as encoder, table, bias"),
        (lambda: prepared(SAM(ADAM, 0.01, perturb=[]), Problem()), "perturb"),
    ],
)
def test_what_is_refused(make, where):
    with pytest.raises(UserError, match=rf"optimizer\.{where}"):
        make()


def node_of(rule, **options):
    base = {"_target_": "torch.optim.Adam", "_partial_": True}
    return {"_target_": f"{rule.__module__}.{rule.__name__}", "base": base, "lr": 0.01} | options


@pytest.mark.parametrize(
    ("rule", "key", "value"),
    [(SAM, "lr", -1), (SAM, "rho", 0), (SAM, "rho", float("nan")), (ASAM, "rho", 0), (ASAM, "eta", -1),
     (ImbSAM, "c", 0), (FocalSAM, "lam", -1), (EISAM, "lam", -1), (EISAM, "every", 0), (EISAM, "rho", -1)],
)  # fmt: skip
def test_a_number_out_of_range_is_refused(rule, key, value):
    with pytest.raises(UserError, match=rf"optimizer\.{key}: it is .*It should be (a finite|greater than)"):
        checked("optimizer", node_of(rule, **{key: value}), UpdateRule)


@pytest.mark.parametrize(
    ("key", "choices"),
    [
        ("perturb", "'all', 'table' or 'encoder'"),
        ("accumulate", "'per_batch' or 'two_pass'"),
        ("scale", "'none' or 'tensor'"),
        ("form", "'exact', 'stale' or 'rowwise'"),
        ("rows", "'targets' or 'all'"),
    ],
)
def test_a_word_that_is_no_choice_is_refused(key, choices):
    with pytest.raises(UserError, match=rf"optimizer\.{key}: it is 'some'. It should be {choices}"):
        checked("optimizer", node_of(EISAM, **{key: "some"}), UpdateRule)


@pytest.mark.parametrize(
    ("base", "weight_decay", "reason"),
    [
        (partial(torch.optim.Adam, betas=(2, 0.9)), 0.0, "beta"),
        (torch.optim.Adam, -1.0, "weight_decay"),
        (torch.optim.LBFGS, None, "closure"),
        (torch.optim.Rprop, 0.1, "weight_decay"),
        (torch.optim.SparseAdam, None, "dense gradients"),
    ],
)
def test_torch_refuses_a_base_before_training(base, weight_decay, reason):
    with pytest.raises(UserError, match=reason):
        Plain(base, 0.01, weight_decay)


def test_a_base_without_weight_decay():
    problem, steps = Problem(), 3
    ours, theirs = trained(lambda: Plain(torch.optim.Rprop, 0.01, None), problem, steps), deepcopy(problem)
    optimizer = torch.optim.Rprop(theirs.parameters(), lr=0.01)
    for step in range(steps):
        optimizer.zero_grad()
        theirs.totals(None, step)[0].backward()
        optimizer.step()
    assert_same(ours, theirs)
