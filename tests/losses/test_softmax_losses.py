"""SL, BSL, PSL, SL@K and the reconstruction of DSL: formulas by hand, where they meet, and what they do to a score."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import answer, assert_same, plain, random_case

from recsys_lt.losses.output_table import OutputTable
from recsys_lt.losses.sampled_losses import SSM
from recsys_lt.losses.softmax_losses import BSL, DSL, PSL, SL, SLAtK

seeds = st.integers(0, 2**31)
some = settings(deadline=None, max_examples=15)
shares = st.sampled_from(["position", "batch"])


def unit_case(seed, **sizes):
    """A case whose table has unit vectors and no bias, as ``Backbone.scorer`` gives it to losses of cosines."""
    case = random_case(seed, bias=False, **sizes)
    case.cosine = True
    case.weight = case.weight / case.weight.norm(dim=1, keepdim=True)
    return case


# Formulas of a target's cosine and those of its negatives.


def sl(tau):
    return lambda own, others: -own / tau + math.log(sum(math.exp(s / tau) for s in others))


def bsl(tau, tau_negative):
    def loss(own, others):
        power = sum(math.exp(s / tau_negative) for s in others) ** (tau_negative / tau)
        return -math.log(math.exp(own / tau) / power)

    return loss


def psl(tau, surrogate):
    return lambda own, others: math.log(sum(surrogate((s - own) / 2) ** (2 / tau) for s in others))


def sl_at_k(tau, tau_weight, top):
    def loss(own, others):
        threshold = sorted([own, *others], reverse=True)[top - 1]
        return sl(tau)(own, others) / (1 + math.exp((threshold - own) / tau_weight))

    return loss


FORMULAS = {
    "sl": (lambda: SL(6, 0.2), sl(0.2)),
    "bsl": (lambda: BSL(6, 0.3, 0.1), bsl(0.3, 0.1)),
    "psl tanh": (lambda: PSL(6, 0.4), psl(0.4, lambda x: math.tanh(x) + 1)),
    "psl relu": (lambda: PSL(6, 0.4, "relu"), psl(0.4, lambda x: max(x + 1, 0))),
    "psl atan": (lambda: PSL(6, 0.4, "atan"), psl(0.4, lambda x: math.atan(x) + 1)),
    "sl_at_k": (lambda: SLAtK(6, 0.2, 0.5, 3), sl_at_k(0.2, 0.5, 3)),
}


@pytest.mark.parametrize("name", FORMULAS)
@given(seed=seeds)
@some
def test_losses_of_cosines(name, seed):
    make, formula = FORMULAS[name]
    case, loss = unit_case(seed, n=20), make()
    ids, _ = loss.negatives(case.draw, case.targets, 9)
    cosines = torch.cosine_similarity(case.states.unsqueeze(1), case.weight.unsqueeze(0), dim=2).tolist()
    expected = [
        formula(scores[target], [scores[j] for j in row])
        for scores, target, row in zip(cosines, case.targets.tolist(), ids.tolist(), strict=True)
    ]
    _, losses = loss(case.states, case.targets, case.table, None, case.draw)
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients_of_cosines_are_those_of_the_formula(name):
    case, loss = unit_case(3, n=20, n_weights=3), FORMULAS[name][0]()
    assert_same(answer(loss, case, True), answer(lambda *given: plain(loss, *given), case, True))


def test_a_dual_scale_loss_by_hand():
    case, loss = unit_case(4, n=7), DSL(5, 0.2, 0.4, -0.7, 0.6, slate=2)
    ids, _ = loss.negatives(case.draw, case.targets, 9)
    cosines = torch.cosine_similarity(case.states.unsqueeze(1), case.weight.unsqueeze(0), dim=2)
    competing, expected = [], []
    for scores, target, row in zip(cosines.tolist(), case.targets.tolist(), ids.tolist(), strict=True):
        strongest = sorted((scores[j] for j in row), reverse=True)[:2]
        competing.append(sum(1 / (1 + math.exp((scores[target] - s) / 0.2)) for s in strongest) / 2)
    for place, (target, row) in enumerate(zip(case.targets.tolist(), ids.tolist(), strict=True)):
        scores = cosines[place].tolist()
        others = torch.tensor([scores[j] for j in row], dtype=torch.float64)
        hard = (others - others.mean()) / (others.std(correction=0) + 1e-6)
        alike = case.weight[row] @ case.weight[target]
        w = 5 * torch.softmax(0.4 * hard - 0.7 * alike, 0)
        assert w.mean().item() == pytest.approx(1)
        factor = math.exp(0.6 * (competing[place] - sum(competing) / 7))
        tau = 0.2 * min(max(factor, 0.5), 2.0)
        z = math.exp(scores[target] / tau) + (w * (others / tau).exp()).sum()
        expected.append(tau / 0.2 * (z.log() - scores[target] / tau))
    _, losses = loss(case.states, case.targets, case.table, None, case.draw)
    torch.testing.assert_close(losses, torch.stack(expected))


# Where they meet.


@given(seed=seeds, share=shares, pool=st.sampled_from(["all", "unseen", "non_target"]))
@some
def test_a_dual_scale_loss_without_strength_is_sampled_softmax_at_the_temperature(seed, share, pool):
    case = random_case(seed, n_weights=3)
    dual = DSL(5, 0.3, 0.0, 0.0, 0.0, pool=pool, share=share)
    softmax = SSM(5, pool, share)

    def at_the_temperature(states, targets, table, *rest):
        return softmax(states / 0.3, targets, table._replace(bias=table.bias / 0.3), *rest)

    assert_same(answer(dual, case, True), answer(at_the_temperature, case, True))


@pytest.mark.parametrize("make", [unit_case, random_case])
@given(seed=seeds, share=shares)
@some
def test_a_bilateral_loss_of_equal_temperatures_is_the_softmax_loss(make, seed, share):
    case = make(seed, n_weights=3)
    bilateral, one = BSL(5, 0.3, 0.3, pool="unseen", share=share), SL(5, 0.3, pool="unseen", share=share)
    assert_same(answer(bilateral, case, True), answer(one, case, True))


@given(seed=seeds, share=shares)
@some
def test_a_pairwise_loss_with_the_exponential_is_the_softmax_loss(seed, share):
    case = unit_case(seed, n_weights=3)
    pairwise, one = PSL(5, 0.3, "exp", "unseen", share), SL(5, 0.3, pool="unseen", share=share)
    assert_same(answer(pairwise, case, True), answer(one, case, True))


@given(seed=seeds)
@some
def test_sl_at_k_with_weight_one_is_the_softmax_loss(seed):
    case = unit_case(seed, n_weights=3)
    one, weighted = SL(5, 0.3), SLAtK(5, 0.3)
    weighted.weight = lambda positive, negative: torch.ones_like(positive)
    assert_same(answer(weighted, case, True), answer(one, case, True))
    # A large temperature weighs all targets alike, at a half.
    _, halves = SLAtK(5, 0.3, 1e12)(case.states, case.targets, case.table, None, case.draw)
    torch.testing.assert_close(halves * 2, answer(one, case, True).losses)


# What they are for.


def losses_of(loss, positive, negative, *known):
    positive, negative = torch.tensor([positive]), torch.tensor([negative])
    return loss.target_losses(positive, negative, 100, *known)


def test_a_large_gap_counts_less_in_a_pairwise_loss():
    near, far = ([[0.5, 0.0]], [[0.9, 0.0]])
    rise = {
        name: float(losses_of(PSL(2, 0.2, name), 0.0, *far) - losses_of(PSL(2, 0.2, name), 0.0, *near))
        for name in ("exp", "relu", "tanh")
    }
    assert rise["exp"] > rise["relu"] > rise["tanh"] > 0


def test_a_target_far_below_the_list_counts_less():
    loss = SLAtK(3, 0.2, 0.1, top=2)
    weights = loss.weight(torch.tensor([0.9, 0.1, -0.9]), torch.tensor([[0.2, 0.1, 0.0]]).expand(3, 3))
    # The second highest of (.9, .2, .1, 0) is .2, of (.2, .1, .1, 0) the target itself.
    torch.testing.assert_close(weights, torch.sigmoid(torch.tensor([7.0, 0.0, -10.0])))


@pytest.mark.parametrize("similarity", [0.7, -0.7])
def test_hard_and_similar_negatives_weigh_more_and_competition_softens(similarity):
    negative, alike = torch.tensor([[0.8, 0.1, 0.1]]), torch.tensor([[0.0, 0.9, 0.0]])
    weights = DSL(3, 0.1, 0.5, similarity).log_weights(negative, alike).exp()[0]
    assert weights.mean().item() == pytest.approx(1)
    assert weights[0] > weights[2]
    assert (weights[1] > weights[2]) == (similarity > 0)
    crowded = torch.tensor([[0.8, 0.7, 0.9], [-0.8, -0.7, -0.9]])
    warm, cool = DSL(3, 0.1, competition=0.5, slate=2).temperatures(torch.zeros(2), crowded).tolist()
    assert cool < 0.1 < warm
    assert DSL(3, 0.1, competition=9.0).temperatures(torch.zeros(2), crowded).tolist() == pytest.approx([0.2, 0.05])


@pytest.mark.parametrize("make", [SL, BSL, PSL, SLAtK, DSL])
def test_a_target_without_an_allowed_negative_moves_nothing(make):
    """One shared negative that is the target itself."""
    case = unit_case(5, n=1, n_items=2)
    loss = make(1, pool="non_target", share="batch")
    case.targets = loss.negatives(case.draw, case.targets, 2)[0]
    found = answer(loss, case, True)
    assert found.totals.isfinite().all()
    for gradient in (found.by_states, found.by_weight):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("make", [SL, BSL, PSL, SLAtK, DSL])
def test_the_length_of_a_state_is_nothing_to_a_cosine(make):
    case, loss = unit_case(6), make(4)
    _, losses = loss(case.states, case.targets, case.table, None, case.draw)
    _, same = loss(case.states * 7, case.targets, case.table, None, case.draw)
    torch.testing.assert_close(losses, same)
    assert loss.cosine


def test_unit_vectors_have_no_bias():
    table = OutputTable(torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.ones(2), True)
    weight, bias, sparse, cosine = table.unit()
    torch.testing.assert_close(weight, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    assert (bias, sparse, cosine) == (None, False, True)
    scores = table.unit().block(torch.tensor([[0.0, 9.0]]), 0, 2)
    torch.testing.assert_close(scores, torch.tensor([[0.8, 1.0]]))
    bound = table.unit().lower_bounds(torch.tensor([[0.0, 9.0]]), torch.tensor([0]))
    assert 0.8 - 1e-5 < bound.item() < 0.8
