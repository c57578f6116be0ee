"""Every loss's fast form against its plain one: totals, losses and all gradients."""

from functools import partial
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import FULL, SAMPLED, answer, assert_same, cases, plain, random_case, small_blocks
from torch.nn.functional import cross_entropy, linear

from recsys_lt.losses.ce import CE
from recsys_lt.losses.loss import Draw
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.losses.sampled import SampledLoss

few = settings(deadline=None, max_examples=15)
pools = st.sampled_from(["all", "unseen", "non_target"])
WAYS = {"_gathered": 0, "_dense": 10**9, "_shared": 40}


@pytest.mark.parametrize("name", FULL)
@given(case=cases(), small=st.booleans())
@few
def test_full(name, case, small):
    loss = FULL[name]()
    with small_blocks(small):
        assert_same(answer(loss, case, False), answer(partial(plain, loss), case, False))


@given(case=cases(), small=st.booleans(), size=st.sampled_from([1e-3, 1.0, 1e3]))
@settings(deadline=None, max_examples=30)
def test_ce_at_any_size_of_logits(case, small, size):
    case.states = case.states * size
    with small_blocks(small):
        assert_same(answer(CE(), case, False), answer(partial(plain, CE()), case, False), rtol=1e-9, atol=1e-9 * size)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SAMPLED)
@given(case=cases(), pool=pools, k=st.integers(1, 30), small=st.booleans())
@few
def test_sampled(name, way, case, pool, k, small):
    if pool == "non_target" and case.n_items == 1:
        return  # no negatives: refused, see test_negatives
    loss = SAMPLED[name](min(k, case.n_items), pool, "batch" if way == "_shared" else "position")
    with (
        small_blocks(small),
        mock.patch("recsys_lt.losses.sampled._DENSE_SHARE", WAYS[way]),
        mock.patch.object(SampledLoss, way, autospec=True, side_effect=getattr(SampledLoss, way)) as taken,
    ):
        fast = answer(loss, case, True)
        assert taken.called
    assert_same(fast, answer(partial(plain, loss), case, True))


@pytest.mark.parametrize(("n_items", "way"), [(39, "_dense"), (41, "_gathered")])
def test_own_negatives_are_scored_the_cheaper_way(n_items, way):
    case = random_case(3, n_items=n_items)
    with mock.patch.object(SampledLoss, way, autospec=True, side_effect=getattr(SampledLoss, way)) as taken:
        SAMPLED["sce"](1)(case.states, case.targets, case.table, None, case.draw)
    assert taken.called


def test_the_three_ways_agree_on_one_draw():
    """Keys that are all the step's key make own negatives equal to shared ones."""
    case = random_case(11, n=20, n_items=30, n_weights=3)
    case.draw = Draw(torch.full((20,), case.draw.step_key), case.draw.step_key, torch.arange(20))
    answers = [answer(SAMPLED["sce"](6, "all", "batch"), case, True)]
    for share in (0, 10**9):
        with mock.patch("recsys_lt.losses.sampled._DENSE_SHARE", share):
            answers.append(answer(SAMPLED["sce"](6), case, True))
    assert_same(answers[1], answers[0])
    assert_same(answers[2], answers[0])


@pytest.mark.parametrize("name", [*FULL, *SAMPLED])
@pytest.mark.parametrize("share", ["position", "batch"])
def test_no_targets(name, share):
    case = random_case(2, n=0, n_weights=3)
    loss = FULL[name]() if name in FULL else SAMPLED[name](3, "all", share)
    found = answer(loss, case, name in SAMPLED)
    assert found.losses.shape == (0,)
    for gradient in (found.totals, found.by_states, found.by_weight, found.by_bias):
        assert not gradient.any()


@pytest.mark.parametrize("name", [*FULL, *SAMPLED])
def test_weights_are_weights_of_a_mean_over_targets(name):
    case = random_case(5, n=6, n_weights=3)
    sampled = name in SAMPLED
    loss = SAMPLED[name](3) if sampled else FULL[name]()
    extra = (case.draw,) if sampled else ()
    totals, losses = loss(case.states, case.targets, case.table, case.weights, *extra)
    expected = [sum(w * x for w, x in zip(row, losses.tolist(), strict=True)) / 6 for row in case.weights]
    torch.testing.assert_close(totals, torch.stack(expected))
    plain_mean, same = loss(case.states, case.targets, case.table, None, *extra)
    torch.testing.assert_close(plain_mean, losses.mean(0, keepdim=True))
    assert torch.equal(same, losses)


@pytest.mark.parametrize("name", [*FULL, *SAMPLED])
@pytest.mark.parametrize("share", ["position", "batch"])
def test_asking_twice_is_bitwise_the_same_and_moves_no_generator(name, share):
    case = random_case(6, n=40, n_items=30, n_weights=3)
    sampled = name in SAMPLED
    loss = SAMPLED[name](7, "unseen", share) if sampled else FULL[name]()
    before = torch.get_rng_state()
    first = answer(loss, case, sampled)
    torch.manual_seed(1)  # what others do to the generator is nothing to it
    second = answer(loss, case, sampled)
    torch.set_rng_state(before)
    third = answer(loss, case, sampled)
    assert torch.equal(torch.get_rng_state(), before)
    for other in (second, third):
        for name_ in ("totals", "losses", "by_states", "by_weight", "by_bias"):
            assert torch.equal(getattr(first, name_), getattr(other, name_))
    assert not first.losses.requires_grad


@pytest.mark.parametrize("name", [*FULL, *SAMPLED])
def test_without_gradients_the_same_values(name):
    case = random_case(8, n=40, n_items=30, n_weights=3)
    sampled = name in SAMPLED
    loss = SAMPLED[name](7) if sampled else FULL[name]()
    extra = (case.draw,) if sampled else ()
    with torch.no_grad():
        totals, losses = loss(case.states, case.targets, case.table, case.weights, *extra)
    found = answer(loss, case, sampled)
    torch.testing.assert_close(totals, found.totals)
    torch.testing.assert_close(losses, found.losses)


@pytest.mark.parametrize("bias", [False, True])
def test_ce_of_large_float32_logits(bias):
    """Logits of some 10,000 that float32 holds exactly: the loss must be as good as the plain one."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randint(-3, 4, (60, 8), generator=generator) * 1e3
    weight = torch.randint(-8, 9, (50, 8), generator=generator) / 8
    states[:, 0], weight[:, 0] = 1e3, 10.0
    weight[:, 1] = 0.0
    states[:30, 2:] /= 1e3 * 8  # half of the rows tell items apart by a few units only
    extra = torch.randint(-8, 9, (50,), generator=generator) / 64 if bias else None
    targets = torch.randint(0, 50, (60,), generator=generator)
    states, weight = states.float().requires_grad_(), weight.float().requires_grad_()
    totals, losses = CE()(states, targets, OutputTable(weight, extra))
    got = torch.autograd.grad(totals.sum(), (states, weight))
    exact = linear(states.double(), weight.double(), None if extra is None else extra.double())
    expected = cross_entropy(exact, targets, reduction="none")
    assert 1e4 < exact.max() < 1e5
    assert losses.isfinite().all()
    torch.testing.assert_close(losses.double(), expected.detach(), rtol=1e-5, atol=1e-5)
    want = torch.autograd.grad(expected.mean(), (states, weight))
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_logits_that_would_overflow_are_shifted():
    states = torch.randn(20, 8, generator=torch.Generator().manual_seed(1)) * 1e3
    weight = torch.randn(40, 8, generator=torch.Generator().manual_seed(2))
    targets = torch.arange(20)
    assert (states @ weight.T).exp().isinf().any()
    totals, losses = CE()(states, targets, OutputTable(weight))
    assert totals.isfinite().all()
    torch.testing.assert_close(losses, cross_entropy(states @ weight.T, targets, reduction="none"))
    bias = torch.linspace(-500, 500, 40)  # the bias alone may overflow too
    _, losses = CE()(states / 1e4, targets, OutputTable(weight, bias))
    expected = cross_entropy(states / 1e4 @ weight.T + bias, targets, reduction="none")
    torch.testing.assert_close(losses, expected)


def test_a_state_that_is_no_number_shows_in_the_loss():
    case = random_case(1, bias=False)
    case.states[2, 0] = torch.nan
    for name, make in {**FULL, **SAMPLED}.items():
        loss, extra = (make(3), (case.draw,)) if name in SAMPLED else (make(), ())
        assert loss(case.states, case.targets, case.table, None, *extra)[0].isnan().all()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("n_weights", [None, 3])
@pytest.mark.parametrize("name", [*FULL, *(f"{name} {way}" for name in SAMPLED for way in WAYS)])
def test_bfloat16_products(name, bias, n_weights):
    """Under autocast a loss is float32's to within bfloat16's rounding, wherever the backward pass runs."""
    case = random_case(4, n=40, n_items=30, d=8, bias=bias, n_weights=n_weights)
    case.states, case.weight = case.states.float() / 2, case.weight.float() / 2
    case.bias = None if case.bias is None else case.bias.float()
    case.weights = None if case.weights is None else case.weights.float()
    name, _, way = name.partition(" ")
    loss = SAMPLED[name](7, "unseen", "batch" if way == "_shared" else "position") if way else FULL[name]()

    with mock.patch("recsys_lt.losses.sampled._DENSE_SHARE", WAYS.get(way, 0)):
        expected = answer(loss, case, bool(way))
        with torch.autocast("cpu", torch.bfloat16):
            within = answer(loss, case, bool(way))
        leaves = [x.clone().requires_grad_() for x in (case.states, case.weight)]
        with torch.autocast("cpu", torch.bfloat16):
            extra = (case.draw,) if way else ()
            totals, losses = loss(leaves[0], case.targets, OutputTable(leaves[1], case.bias), case.weights, *extra)
        gradients = torch.autograd.grad(totals @ totals.new_tensor([0.7, -1.3, 2.1])[: len(totals)], leaves)

    assert totals.dtype == losses.dtype == gradients[0].dtype == gradients[1].dtype == torch.float32
    torch.testing.assert_close(gradients, (within.by_states, within.by_weight), rtol=1e-6, atol=1e-7)
    # Products may be bfloat16's, but what is summed and logged is not.
    assert (losses.bfloat16().float() != losses).double().mean() > 0.5
    weights = torch.ones(1, 40) if case.weights is None else case.weights
    torch.testing.assert_close(totals.detach(), weights @ losses / 40, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses, expected.losses, rtol=0.02, atol=0.05)
    assert_same(within, expected, rtol=0.05, atol=0.05)
