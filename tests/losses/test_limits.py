"""Where losses meet: one is another's limit, or bounds a metric."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import answer, assert_same, random_case
from torch.nn.functional import binary_cross_entropy_with_logits

from recsys_lt.data.streams import key_of, keys_of
from recsys_lt.losses.ce import CE
from recsys_lt.losses.loss import Draw
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.losses.sampled_losses import BCE, GBCE, NCE, SCE, SSM

seeds = st.integers(0, 2**31)
some = settings(deadline=None, max_examples=25)


class AllOthers:
    """Stands in for ``Negatives``: every item but the target, once."""

    def __init__(self, n_items):
        self.k = n_items - 1

    def __call__(self, draw, targets, n_items):
        items = torch.arange(n_items).expand(len(targets), -1)
        return items[items != targets.unsqueeze(1)].view(len(targets), -1), None


@given(seed=seeds, bias=st.booleans())
@some
def test_sampled_softmax_over_all_other_items_is_cross_entropy(seed, bias):
    case = random_case(seed, n_items=12, bias=bias, n_weights=3)
    for loss in (SSM(11), SCE(11, 1.0)):
        loss.negatives = AllOthers(12)
        assert_same(answer(loss, case, True), answer(CE(), case, False))


@given(seed=seeds, share=st.sampled_from(["position", "batch"]))
@some
def test_scaled_cross_entropy_with_alpha_one_is_sampled_softmax(seed, share):
    case = random_case(seed, n_weights=3)
    scaled, sampled = SCE(5, 1.0, "non_target", share), SSM(5, "non_target", share)
    assert_same(answer(scaled, case, True), answer(sampled, case, True))


@given(seed=seeds, k=st.integers(1, 9))
@some
def test_scaled_cross_entropy_is_sampled_softmax_with_alpha_copies(seed, k):
    """Alpha = 3 over K negatives is alpha = 1 over three copies of each."""
    case = random_case(seed)
    scaled, tripled = SCE(k, 3.0), SSM(3 * k)
    ids, _ = scaled.negatives(case.draw, case.targets, case.n_items)
    tripled.negatives = lambda draw, targets, n_items: (ids.repeat(1, 3), None)
    assert_same(answer(scaled, case, True), answer(tripled, case, True))


@given(seed=seeds)
@some
def test_nce_without_a_shift_is_bce_for_one_negative(seed):
    case = random_case(seed, n_weights=3)
    assert_same(answer(BCE(1, "all"), case, True), answer(NCE(1, math.log(case.n_items)), case, True))


@given(seed=seeds, k=st.integers(1, 8))
@some
def test_gbce_with_t_zero_is_the_mean_bce_over_all_its_logits(seed, k):
    case = random_case(seed, n_items=9)
    loss = GBCE(k, 0.0)
    assert loss.beta(9) == pytest.approx(1)
    ids, _ = loss.negatives(case.draw, case.targets, 9)
    logits = case.scores().gather(1, torch.cat([case.targets.unsqueeze(1), ids], 1))
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    expected = binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)
    torch.testing.assert_close(loss(case.states, case.targets, case.table, None, case.draw)[1], expected)


def test_gbce_exponent():
    # 256 negatives of 3,416 items, t = 0.75 (gSASRec on MovieLens-1M)
    rate = 256 / 3415
    assert GBCE(256, 1.0).beta(3416) == pytest.approx(rate)
    assert GBCE(256, 0.75).beta(3416) == pytest.approx(0.75 * rate + 0.25)


@pytest.mark.parametrize("alpha", [1.0, 100.0])
@given(seed=seeds, k=st.integers(1, 20))
@some
def test_a_negative_of_sce_is_pushed_by_its_share_of_the_scaled_sum(alpha, seed, k):
    """d loss / d s_j = alpha exp(s_j) / Z for every draw of j; read off the bias's gradient."""
    case = random_case(seed, n=1, n_items=20)
    loss = SCE(k, alpha, "non_target")
    ids, _ = loss.negatives(case.draw, case.targets, 20)
    mass = case.scores()[0].exp()
    target = int(case.targets)
    z = mass[target] + alpha * mass[ids[0]].sum()
    expected = alpha * mass * torch.bincount(ids[0], minlength=20) / z
    expected[target] = mass[target] / z - 1
    torch.testing.assert_close(answer(loss, case, True).by_bias, 0.7 * expected)
    assert expected.sum().abs() < 1e-12


@pytest.mark.parametrize(("alpha", "k", "rank"), [(1, 100, 60), (5, 50, 40), (5, 100, 20), (100, 50, 10)])
def test_sce_bounds_ndcg_as_often_as_theorem_2_says(alpha, k, rank):
    """The tightest case: items ranked before the target score no more than it, the others nearly nothing."""
    n_items, trials = 400, 2000
    m = math.ceil(math.log2(rank + 1))
    groups = math.ceil(m / alpha)
    bound = 1 - groups * (1 - rank / n_items) ** (k // groups)
    assert 0.1 < bound < 0.9999
    scores = torch.full((n_items, 1), -60.0)
    scores[:rank] = 0.0
    targets = torch.zeros(trials, dtype=torch.int64)
    keys = keys_of(key_of(99, alpha, k, rank), torch.arange(trials))
    draw = Draw(keys, 0, torch.arange(trials))
    _, losses = SCE(k, float(alpha))(torch.ones(trials, 1), targets, OutputTable(scores), None, draw)
    held = (losses >= math.log(math.log2(1 + rank)) - 1e-6).double().mean()
    assert held >= bound - 3 * math.sqrt(bound * (1 - bound) / trials)
