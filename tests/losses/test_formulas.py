"""Each loss against its formula in the paper, written out for one target at a time."""

import math

import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import random_case, small_blocks

from recsys_lt import CONF
from recsys_lt.losses.ce import CE
from recsys_lt.losses.sampled_losses import BCE, BPR, GBCE, NCE, SCE, SSM


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


# Scores of all items and the target -> loss.


def ce(scores, target):
    return -math.log(math.exp(scores[target]) / sum(math.exp(s) for s in scores))


@given(seed=st.integers(0, 2**31), bias=st.booleans())
@settings(deadline=None, max_examples=10)
def test_cross_entropy_over_the_catalogue(seed, bias):
    case = random_case(seed, n=20, n_items=9, bias=bias)
    expected = [ce(s, t) for s, t in zip(case.scores().tolist(), case.targets.tolist(), strict=True)]
    expected = torch.tensor(expected, dtype=torch.float64)
    with small_blocks():
        totals, losses = CE()(case.states, case.targets, case.table)
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(totals, expected.mean(0, keepdim=True))


# Target score, negative scores, catalogue size -> loss.


def bce(own, others, n_items):
    return -math.log(sigmoid(own)) - sum(math.log(1 - sigmoid(s)) for s in others) / max(len(others), 1)


def bpr(own, others, n_items):
    return -sum(math.log(sigmoid(own - s)) for s in others) / max(len(others), 1)


def neg(own, others, n_items):
    return -math.log(sigmoid(own)) - sum(math.log(1 - sigmoid(s)) for s in others)


def nce(c):
    def loss(own, others, n_items):
        log_kq = math.log(len(others) / n_items)  # uniform noise
        return neg(own - c - log_kq, [s - c - log_kq for s in others], n_items)

    return loss


def sce(alpha):
    def loss(own, others, n_items):
        z = math.exp(own) + alpha * sum(math.exp(s) for s in others)
        return -math.log(math.exp(own) / z)

    return loss


def gbce(t, drawn=None):
    def loss(own, others, n_items):
        k = len(others)
        rate = (drawn or k) / (n_items - 1)
        beta = rate * (t * (1 - 1 / rate) + 1 / rate)
        terms = math.log(sigmoid(own) ** beta) + sum(math.log(1 - sigmoid(s)) for s in others)
        return -terms / (k + 1)

    return loss


SAMPLED = [
    (BCE, (), bce),
    (BPR, (), bpr),
    (NCE, (10.0,), nce(10.0)),
    (NCE, (1.0,), nce(1.0)),
    (SSM, (), sce(1.0)),
    (SCE, (100.0,), sce(100.0)),
    (SCE, (0.3,), sce(0.3)),
    (GBCE, (0.75,), gbce(0.75)),
    (GBCE, (1.0,), gbce(1.0)),
]


@pytest.mark.parametrize(("make", "settings_", "formula"), SAMPLED)
@given(
    seed=st.integers(0, 2**31),
    k=st.sampled_from([1, 2, 7]),
    pool=st.sampled_from(["all", "unseen", "non_target"]),
    bias=st.booleans(),
)
@settings(deadline=None, max_examples=10)
def test_losses_on_own_negatives(make, settings_, formula, seed, k, pool, bias):
    case = random_case(seed, n=20, n_items=9, bias=bias)
    loss = make(k, *settings_, pool, "position")
    ids, forbidden = loss.negatives(case.draw, case.targets, 9)
    assert ids.shape == (20, k)
    assert forbidden is None
    scores = case.scores().tolist()
    expected = [
        formula(s[t], [s[j] for j in row], 9)
        for s, t, row in zip(scores, case.targets.tolist(), ids.tolist(), strict=True)
    ]
    with small_blocks():
        _, losses = loss(case.states, case.targets, case.table, None, case.draw)
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64))


SHARED = [row for row in SAMPLED if row[0] not in (NCE, GBCE)] + [(GBCE, (0.75,), gbce(0.75, drawn=6))]


@pytest.mark.parametrize(("make", "settings_", "formula"), SHARED)
@pytest.mark.parametrize("pool", ["unseen", "non_target"])
def test_a_forbidden_shared_negative_is_none_at_all(make, settings_, formula, pool):
    case = random_case(13, n=20, n_items=9)
    loss = make(6, *settings_, pool, "batch")
    ids, _ = loss.negatives(case.draw, case.targets, 9)
    expected = []
    for i, target in enumerate(case.targets.tolist()):
        row = case.draw.rows[i]
        seen = case.draw.seen_items[case.draw.seen_offsets[row] : case.draw.seen_offsets[row + 1]].tolist()
        allowed = [j for j in ids.tolist() if j not in (seen if pool == "unseen" else [target])]
        scores = case.scores()[i].tolist()
        expected.append(formula(scores[target], [scores[j] for j in allowed], 9))
    _, losses = loss(case.states, case.targets, case.table, None, case.draw)
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64))


def test_gbce_of_negatives_that_are_all_allowed_is_the_published_one_to_the_bit():
    generator = torch.Generator().manual_seed(3)
    positive, negative = torch.randn(50, generator=generator), torch.randn(50, 12, generator=generator)
    loss = GBCE(12, 0.75)
    published = loss.beta(9) * F.softplus(-positive) + F.softplus(negative).sum(1)
    assert torch.equal(loss.target_losses(positive, negative, 9), published / 13)


def test_published_defaults():
    assert (NCE(500).c, GBCE(256).t) == (10.0, 0.75)
    for name in ("bce", "bpr"):
        chosen = yaml.safe_load((CONF / f"loss/{name}.yaml").read_text())
        assert [chosen[key] for key in ("k", "pool", "share")] == [1, "unseen", "position"]
    assert BCE(1, "unseen").needs_seen
    assert not any(loss.needs_seen for loss in (NCE(2), SCE(2, 100.0), SSM(2), GBCE(2), CE()))
