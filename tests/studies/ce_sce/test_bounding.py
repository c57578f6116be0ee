"""Figure 2: how probably a sampled loss bounds the metric."""

import numpy as np
import pytest
from scipy import stats

from studies.ce_sce import bounding
from studies.ce_sce.evidence import Evidence
from studies.ce_sce.published import facts


@pytest.mark.parametrize(("metric", "least"), [("NDCG", lambda r: np.log(np.log2(1 + r))), ("MRR", np.log)])
def test_what_is_drawn_is_the_binomial_tail_and_not_below_the_bound(metric, least) -> None:
    for alpha in bounding.ALPHAS:
        for rank in bounding.RANKS:
            hits = next(h for h in range(10_000) if np.log1p(alpha * h) + 1e-12 >= least(rank))
            for k in bounding.KS:
                drawn = bounding.drawn(metric, rank, k, alpha)
                exact = stats.binom.sf(hits - 1, k, rank / bounding.N_ITEMS)
                assert drawn == pytest.approx(exact, abs=0.005)
                assert exact >= bounding.FORMS[metric].bound(rank, k, bounding.N_ITEMS, alpha) - 1e-9


def test_figure_2_has_the_values_of_the_theorems() -> None:
    piece = bounding.bounding(Evidence([], facts(), lambda *_: {}))
    found = {tuple(row[:4]): row[4] for row in piece.rows}
    assert [key[3] for key in found][:6] == [1, 10, 50, 100, 300, 500]
    for (metric, alpha, rank), bounds in {
        ("NDCG", 1, 1000): (0, 0, 0, 0, 0.248, 0.866),
        ("NDCG", 5, 100): (0, 0, 0, 0, 0.424, 0.7488),
        ("NDCG", 100, 50): (0.0041, 0.0406, 0.187, 0.339, 0.7112, 0.8738),
        ("MRR", 100, 100): (0, 0, 0, 0, 0.424, 0.7488),
        ("MRR", 1, 5000): (0, 0, 0, 0, 0, 0),
    }.items():
        assert [found[metric, alpha, rank, k] for k in bounding.KS] == pytest.approx(bounds, abs=6e-5)


N = 12101
KS = (1, 10, 50, 100, 300, 500)
NDCG_TABLE = {  # (alpha, rank): the bound at each K, from the specification
    (1, 1): (0.0001, 0.0008, 0.0041, 0.0082, 0.0245, 0.0405),
    (1, 500): (0, 0, 0, 0, 0, 0.1163),
    (1, 1000): (0, 0, 0, 0, 0.248, 0.866),
    (1, 5000): (0, 0, 0, 0.6885, 0.9999, 1),
    (5, 10): (0.0008, 0.0082, 0.0405, 0.0793, 0.2197, 0.3386),
    (5, 100): (0, 0, 0, 0, 0.424, 0.7488),
    (5, 500): (0, 0, 0.3036, 0.7575, 0.9964, 0.9999),
    (100, 50): (0.0041, 0.0406, 0.187, 0.339, 0.7112, 0.8738),
    (100, 100): (0.0083, 0.0796, 0.3396, 0.5639, 0.917, 0.9842),
    (100, 500): (0.0413, 0.3442, 0.8787, 0.9853, 1, 1),
}


@pytest.mark.parametrize(("alpha", "rank"), NDCG_TABLE)
def test_ndcg_table(alpha, rank):
    values = [bounding.sce_ndcg_bound(rank, k, N, alpha) for k in KS]
    assert values == pytest.approx(NDCG_TABLE[alpha, rank], abs=6e-5)
    if alpha == 1:
        assert values == [bounding.ssm_ndcg_bound(rank, k, N) for k in KS]


def test_mrr_table():
    values = [bounding.sce_mrr_bound(100, k, N, 100) for k in KS]
    assert values == pytest.approx((0, 0, 0, 0, 0.424, 0.7488), abs=6e-5)
    assert all(bounding.sce_mrr_bound(r, k, N, 1) == 0 for r in (10, 500, 5000) for k in KS)


def sampled_losses(rank, k, n_items, alpha, draws=20_000):
    """SCE in the case the proofs lean on: hits tie with the target, every other item is at minus infinity."""
    hits = np.random.default_rng(rank + k).binomial(k, rank / n_items, draws)
    return np.log1p(alpha * hits)


@pytest.mark.parametrize("alpha", [1, 5, 100])
@pytest.mark.parametrize("rank", [1, 6, 40, 300])
@pytest.mark.parametrize("k", [10, 100])
def test_the_bounds_hold_where_they_are_tightest(rank, k, alpha):
    n_items, noise = 500, 0.012
    losses = sampled_losses(rank, k, n_items, alpha) + 1e-12
    below_ndcg = np.mean(np.log(np.log2(1 + rank)) <= losses)
    below_mrr = np.mean(np.log(rank) <= losses)
    assert below_ndcg >= bounding.sce_ndcg_bound(rank, k, n_items, alpha) - noise
    assert below_mrr >= bounding.sce_mrr_bound(rank, k, n_items, alpha) - noise


def test_the_bounds_hold_for_random_scores():
    rng = np.random.default_rng(0)
    n_items, k, alpha = 200, 30, 5.0
    scores = rng.normal(size=n_items)
    for rank in (3, 20, 120):
        target = np.argsort(-scores)[rank - 1]
        sampled = scores[rng.integers(0, n_items, (5000, k))]
        losses = np.log(np.exp(scores[target]) + alpha * np.exp(sampled).sum(1)) - scores[target]
        frequency = np.mean(np.log(np.log2(1 + rank)) <= losses)
        assert frequency >= bounding.sce_ndcg_bound(rank, k, n_items, alpha)


def test_levels_are_exact_at_powers_of_two():
    for m in range(1, 20):
        assert bounding._levels(2**m - 1) == m
        assert bounding._levels(2**m) == m + 1


def test_a_larger_rank_set_or_more_draws_never_lower_a_fixed_level():
    values = [bounding.sce_ndcg_bound(rank, 100, N, 5) for rank in range(64, 128)]
    assert values == sorted(values)


@pytest.mark.parametrize("call", [(0, 10, N, 1.0), (N + 1, 10, N, 1.0), (1, 0, N, 1.0), (1, 10, N, 0.0)])
def test_out_of_range(call):
    for bound in (bounding.sce_ndcg_bound, bounding.sce_mrr_bound):
        with pytest.raises(ValueError):  # noqa: PT011
            bound(*call)
