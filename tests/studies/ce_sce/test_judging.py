"""A cell beside a published mean."""

import numpy as np
import pytest

from recsys_lt.metrics.ranking import gains
from recsys_lt.results.cells import cells_of
from recsys_lt.results.significance import spread
from recsys_lt.runs.listing import find_runs
from studies.ce_sce.judging import compare_with
from tests.results.made import make_run


def test_a_published_run_counts_as_one_more_seed(tmp_path):
    random = np.random.default_rng(0)
    ranks = [random.integers(0, 14, 200) for _ in range(3)]
    for seed, of_run in enumerate(ranks):
        make_run(tmp_path / f"{seed}", seed=seed, ranks=of_run)
    (cell,) = cells_of(find_runs(tmp_path))
    values = np.stack([gains("ndcg", of_run, 10) for of_run in ranks])
    found = compare_with(cell, 0.3, "ndcg", 10)
    assert found.value == pytest.approx(values.mean() - 0.3)
    seed = spread(values)
    of_users = values.mean(0).var(ddof=1) / 200 - seed.residual / 3
    variance = seed.seeds * (1 + 1 / 3) + max(of_users, 0)
    assert found.variances.of(3, 1)[0] == pytest.approx(variance)
    assert found.over_seeds
    make_run(tmp_path / "single" / "0", ranks=ranks[0])
    (single,) = cells_of(find_runs(tmp_path / "single"))
    assert not compare_with(single, 0.3, "ndcg", 10).over_seeds
