"""The preference losses: the methods as settings of one formula, and what each of them selects."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lt.losses.preference import (
    Answers,
    Preference,
    border,
    confident_margin,
    popularity_margins,
    similar_rows,
    strength,
)

DPO = Preference(0.7)
MEAN = Preference(0.7, combine="mean")
DYNAMIC = Preference(0.7, combine="mean", dynamic=True)
FAMILY = {
    "dpo": DPO,
    "ipo": Preference(0.7, squared=True),
    "simpo": Preference(2.0, margin=0.5),
    "dmpo": MEAN,
    "rose_po": Preference(0.7, smoothing=0.2),
    "dynamic_po": DYNAMIC,
}
seeds = st.integers(0, 2**31)
few = settings(deadline=None, max_examples=20)


def answers(seed: int, n: int = 6, k: int = 5) -> tuple[Answers, Answers, torch.Tensor]:
    """Of policy and reference, and a mask that leaves something in each row."""
    generator = torch.Generator().manual_seed(seed)
    found = [torch.randn(shape, generator=generator) * 3 for shape in ((n,), (n, k)) * 2]
    allowed = torch.rand(n, k, generator=generator) < 0.7
    allowed[:, 0] = True
    return Answers(*found[:2]), Answers(*found[2:]), allowed


@given(seed=seeds)
@few
def test_with_one_rejected_answer_lse_and_mean_are_dpo_bitwise(seed):
    policy, reference, allowed = answers(seed, k=1)
    lead = 0.7 * ((policy.chosen - policy.rejected[:, 0]) - (reference.chosen - reference.rejected[:, 0]))
    dpo = F.softplus(-lead)
    assert torch.equal(DPO(policy, allowed, reference), dpo)
    assert torch.equal(MEAN(policy, allowed, reference), dpo)
    torch.testing.assert_close(-F.logsigmoid(lead), dpo)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_where_policy_and_reference_agree_the_loss_is_the_logarithm_of_the_number_of_answers(k):
    policy, _, _ = answers(1, k=k)
    every = torch.ones(6, k, dtype=torch.bool)
    torch.testing.assert_close(DPO(policy, every, policy), torch.full((6,), math.log(1 + k)))
    torch.testing.assert_close(MEAN(policy, every, policy), torch.full((6,), math.log(2)))
    one = every & (torch.arange(k) == 0)
    torch.testing.assert_close(FAMILY["ipo"](policy, one, policy), torch.full((6,), 1 / (2 * 0.7) ** 2))


@given(seed=seeds)
@few
def test_each_row_is_its_formula_over_the_answers_that_count(seed):
    policy, reference, allowed = answers(seed)
    for row in range(6):
        of = [k for k in range(5) if allowed[row, k]]
        own = [
            float(0.7 * (policy.chosen[row] - policy.rejected[row, k] - reference.chosen[row]
                         + reference.rejected[row, k])) for k in of
        ]  # fmt: skip
        s_dpo = math.log1p(sum(math.exp(-lead) for lead in own))  # -log sigma(-log sum exp(-lead))
        dmpo = math.log1p(math.exp(-sum(own) / len(own)))
        ipo = (-math.log(sum(math.exp(-lead) for lead in own)) / 0.7 - 1 / 1.4) ** 2
        for loss, value in ((DPO, s_dpo), (MEAN, dmpo), (FAMILY["ipo"], ipo)):
            found = loss(policy, allowed, reference)[row]
            torch.testing.assert_close(found.item(), value, rtol=1e-4, atol=1e-4)


def test_simpo_without_margin_is_dpo_without_reference():
    policy, _, allowed = answers(3, k=1)
    zero = Answers(torch.zeros(6), torch.zeros(6, 1))
    assert torch.equal(Preference(2.0, margin=0.0)(policy, allowed), Preference(2.0)(policy, allowed, zero))
    lead = 2.0 * (policy.chosen - policy.rejected[:, 0])
    torch.testing.assert_close(FAMILY["simpo"](policy, allowed), -F.logsigmoid(lead - 0.5))


def test_rose_po_is_dpo_without_smoothing_and_undecided_at_one_half():
    policy, reference, allowed = answers(4, k=1)
    plain = Preference(0.7, smoothing=0.0)(policy, allowed, reference)
    assert torch.equal(plain, DPO(policy, allowed, reference))
    lead = 0.7 * (policy.gaps() - reference.gaps())[:, 0]
    expected = -0.8 * F.logsigmoid(lead) - 0.2 * F.logsigmoid(-lead)
    torch.testing.assert_close(FAMILY["rose_po"](policy, allowed, reference), expected)
    chosen = torch.zeros(1, requires_grad=True)
    Preference(0.7, smoothing=0.5)(Answers(chosen, torch.zeros(1, 1)), torch.ones(1, 1, dtype=torch.bool)).backward()
    assert chosen.grad.item() == 0


def test_dynamic_po_selects_exactly_the_answers_above_the_chosen_one():
    policy = Answers(torch.tensor([-2.0]), torch.tensor([[-1.0, -5.0, -2.0, -3.0, -9.0]]))
    every = torch.ones(1, 5, dtype=torch.bool)
    at_border = border(policy, every)
    assert at_border.tolist() == [[True, False, True, False, False]]
    # For -1: D1 = -1, D2 = -1 - mean(-5, -3, -9) = 14/3.
    first = 1 + 0.5 * math.tanh((-1 - 14 / 3 - 2) / (1 + 14 / 3))
    third = 1 + 0.5 * math.tanh((0 - 11 / 3 - 2) / (0 + 11 / 3))
    found = strength(policy, every, at_border)
    torch.testing.assert_close(found[0, [0, 2]], torch.tensor([first, third]))
    loss = DYNAMIC(policy, every)
    lead = 0.7 * (first * -1.0 + third * 0.0) / 2
    torch.testing.assert_close(loss.item(), math.log1p(math.exp(-lead)))


def test_dynamic_po_takes_the_highest_cluster_where_none_is_above():
    policy = Answers(torch.tensor([0.0, 0.0, 0.0]), torch.tensor([
        [-1.0, -5.0, -1.2, -9.0, -5.2], [-1.0, -5.0, -1.2, -9.0, -5.2], [-4.0, -1.0, -1.1, -1.2, -1.3],
    ]))  # fmt: skip
    allowed = torch.tensor([[True] * 5, [False, True, False, True, True], [True, True, False, True, False]])
    assert border(policy, allowed).tolist() == [
        [True, False, True, False, False],
        [False, True, False, False, False],  # three are left: the highest
        [False, True, False, False, False],
    ]
    none = torch.zeros_like(allowed)
    assert not border(policy, none).any()


@given(seed=seeds)
@few
def test_dynamic_po_clusters_as_a_search_over_all_of_them(seed):
    policy, _, allowed = answers(seed, n=4, k=7)
    policy = policy._replace(chosen=torch.full((4,), 99.0))
    at_border = border(policy, allowed)
    for row in range(4):
        values = sorted(policy.rejected[row][allowed[row]].double().tolist(), reverse=True)
        found = int(at_border[row].sum())
        if len(values) <= 3:
            assert found == 1
            continue
        cost = {}
        for i in range(1, len(values) - 1):
            for j in range(i + 1, len(values)):
                parts = (values[:i], values[i:j], values[j:])
                cost[i, j] = sum((x - sum(part) / len(part)) ** 2 for part in parts for x in part)
        assert found == min(cost, key=cost.__getitem__)[0]
        assert set(policy.rejected[row][at_border[row]].double().tolist()) == set(values[:found])


@given(seed=seeds)
@few
def test_dynamic_po_strength_stays_within_half_of_beta_and_has_no_gradient(seed):
    policy, _, allowed = answers(seed)
    policy = Answers(policy.chosen.requires_grad_(), policy.rejected.requires_grad_())
    found = strength(policy, allowed, border(policy, allowed))
    assert ((found >= 0.5) & (found <= 1.5)).all()
    assert not found.requires_grad


@pytest.mark.parametrize("name", FAMILY)
def test_what_does_not_count_has_no_part_and_no_gradient(name):
    policy, reference, allowed = answers(5)
    allowed[2] = False  # a row without any
    loss = FAMILY[name]
    rejected = policy.rejected.masked_fill(~allowed, torch.inf).requires_grad_()
    chosen = policy.chosen.clone().requires_grad_()
    losses = loss(Answers(chosen, rejected), allowed, reference)
    assert losses[2] == 0
    losses.sum().backward()
    assert chosen.grad.isfinite().all()
    assert chosen.grad[2] == 0
    assert (chosen.grad[[0, 1, 3, 4, 5]] != 0).all()
    assert not rejected.grad[~allowed].any()
    # A row alone, with its own answers only, has the same loss.
    for row in (0, 1, 3):
        own = allowed[row]
        part = [Answers(each.chosen[row : row + 1], each.rejected[row : row + 1, own]) for each in (policy, reference)]
        alone = loss(part[0], torch.ones(1, int(own.sum()), dtype=torch.bool), part[1])
        torch.testing.assert_close(alone[0], losses[row].detach())


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_large_differences_stay_finite(name, dtype):
    chosen = torch.tensor([300.0, -300.0], dtype=dtype, requires_grad=True)
    rejected = torch.tensor([[-300.0, -299.0], [300.0, 299.0]], dtype=dtype)
    losses = FAMILY[name](Answers(chosen, rejected), torch.ones(2, 2, dtype=torch.bool))
    assert losses.dtype == torch.float32
    assert losses.isfinite().all()
    losses.sum().backward()
    assert chosen.grad.isfinite().all()


def test_margins_by_popularity_are_logit_adjustment():
    policy, reference, allowed = answers(6)
    counts = torch.tensor([0, 1, 5, 40, 200])
    chosen, rejected = torch.tensor([0, 1, 2, 3, 4, 4]), torch.tensor([[0, 1, 2, 3, 4]] * 6)
    margins = popularity_margins(counts, chosen, rejected, 0.5)
    assert margins[1, 4] == pytest.approx(0.5 * math.log(200 / 1))
    assert margins[0, 1] == 0  # without interactions as with one
    found = Preference(1.0)(policy, allowed, reference, margins=margins)
    logs = 0.5 * counts.clamp(min=1).float().log()
    adjusted = Answers(policy.chosen + logs[chosen], policy.rejected + logs[rejected])
    torch.testing.assert_close(found, Preference(1.0)(adjusted, allowed, reference))


def test_rows_share_with_the_most_similar_ones_of_their_group():
    states = torch.tensor([[[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]], [[1.0, 0.0], [2.0, 0.0], [9.0, 9.0],
                                                                             [9.0, 9.0]]])  # fmt: skip
    real = torch.tensor([[True] * 4, [True, True, False, False]])
    rows, kept = similar_rows(states, real, 0.4)
    assert rows.shape == (2, 4, 1)
    assert rows[0, :, 0].tolist() == [1, 0, 3, 2]
    assert kept[0].all()
    assert rows[1, :2, 0].tolist() == [1, 0]
    every, kept = similar_rows(states, real, 1.0)
    assert every.shape == (2, 4, 3)
    assert kept[1, :2].sum(1).tolist() == [1, 1]
    assert similar_rows(states, real, 0.0)[0].shape == (2, 4, 0)
    # As published: 16 rows, 0.7 of the others, 3 answers each, and a row's own 3.
    assert similar_rows(torch.randn(1, 16, 2), torch.ones(1, 16, dtype=torch.bool), 0.7)[0].shape[2] * 3 + 3 == 33


def test_a_row_whose_rejected_answers_score_high_has_the_smaller_margin():
    scores = torch.tensor([[9.0, 9.0], [1.0, 99.0], [1.0, 1.0]])
    allowed = torch.tensor([[True, True], [True, False], [True, True]])
    margins = confident_margin(scores, allowed, 1.0, 0.3)
    spread = torch.tensor([9.0, 9.0, 1.0, 1.0, 1.0]).std(correction=0)
    torch.testing.assert_close(margins, 1 - 0.3 * (torch.tensor([9.0, 1.0, 1.0]) - 11 / 3) / spread)
    assert torch.equal(confident_margin(scores, allowed, 1.0, 0.0), torch.ones(3))
    extreme = confident_margin(scores, allowed, 1.0, 100.0)
    assert extreme.tolist() == [0.0, 2.0, 2.0]
    assert confident_margin(scores, torch.zeros_like(allowed), 1.0, 0.3).tolist() == [0, 0, 0]
    flat = confident_margin(torch.ones(2, 2), torch.ones(2, 2, dtype=torch.bool), 1.0, 0.3)
    assert flat.tolist() == [1, 1]


def test_a_toy_set_is_learned_without_a_collapse_of_the_chosen_answer():
    """64 rows of 20 answers; the term of likelihood keeps the chosen one's log-probability up."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, 20, generator=generator).requires_grad_()
    chosen = torch.randint(0, 20, (64,), generator=generator)
    rejected = (chosen.unsqueeze(1) + torch.randint(1, 20, (64, 3), generator=generator)) % 20
    start = logits.detach().log_softmax(1)
    reference = Answers(start.gather(1, chosen.unsqueeze(1)).squeeze(1), start.gather(1, rejected))
    optimizer = torch.optim.Adam([logits], lr=0.05)
    every = torch.ones(64, 3, dtype=torch.bool)
    for _ in range(50):
        logs = logits.log_softmax(1)
        policy = Answers(logs.gather(1, chosen.unsqueeze(1)).squeeze(1), logs.gather(1, rejected))
        loss = (Preference(1.0)(policy, every, reference) - 0.1 * policy.chosen).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    leads = policy.gaps() - reference.gaps()
    assert (leads > 0).all(1).float().mean() > 0.95
    assert policy.chosen.mean() > 1.1 * reference.chosen.mean()
