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
