"""The test over users and seeds against plain forms, its size and its power."""

from dataclasses import replace

import numpy as np
import pytest
from pyarrow import parquet
from scipy import stats

from recsys_lt.metrics.ranking import gains
from recsys_lt.results.cells import cells_of
from recsys_lt.results.significance import (
    Difference,
    compare_cells,
    corrected,
    difference,
    holm,
)
from recsys_lt.runs.listing import find_runs
from tests.results.made import USERS as NUMBERS
from tests.results.made import make_run

RANDOM = np.random.default_rng(0)
USERS = RANDOM.random(300)


def drawn(random, n, users=300, mean=0.0, of_seeds=1.0, of_users=1.0):
    """Gains of n seeds: a part a user has with every seed, a part of the seed, and the rest."""
    pure = of_seeds * random.normal(size=(n, 1)) / users**0.5
    return mean + of_users * USERS[:users] + pure + random.normal(size=(n, users))


def test_one_seed_a_side_is_a_paired_t_test_over_users():
    a, b = drawn(RANDOM, 1, mean=0.1), drawn(RANDOM, 1)
    found, expected = difference(a, b), stats.ttest_rel(a[0], b[0])
    interval = expected.confidence_interval()
    assert found.value == pytest.approx((a - b).mean())
    assert (found.p, found.low, found.high) == pytest.approx((expected.pvalue, interval.low, interval.high))
    assert (found.over_seeds, found.seeds, found.seeds_needed, found.detectable) == (False, (1, 1), None, None)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 5), (7, 2)])
def test_where_users_are_alike_it_is_welchs_t_test_over_seeds(n, m):
    a = USERS + RANDOM.normal(0.3, 0.2, (n, 1))
    b = USERS + RANDOM.normal(0.0, 0.4, (m, 1))
    found, expected = difference(a, b), stats.ttest_ind(a.mean(1), b.mean(1), equal_var=False)
    interval = expected.confidence_interval()
    assert (found.p, found.low, found.high) == pytest.approx((expected.pvalue, interval.low, interval.high))
    assert found.over_seeds


def test_where_seeds_are_alike_it_is_a_paired_t_test_over_users():
    one, other = RANDOM.random(200), RANDOM.random(200)
    found = difference(np.tile(one, (3, 1)), np.tile(other, (2, 1)))
    assert found.p == pytest.approx(stats.ttest_rel(one, other).pvalue)


def test_seeds_that_agree_by_luck_do_not_make_it_sure():
    a, b = drawn(RANDOM, 2), drawn(RANDOM, 2)
    a -= a.mean(1, keepdims=True) - 0.1
    b -= b.mean(1, keepdims=True)
    found = difference(a, b)
    # Users alone spread the mean of a seed by one in the root of their number.
    assert found.high - found.value > 1.9 / 300**0.5


def test_a_share_of_the_reference_is_subtracted():
    a, b = drawn(RANDOM, 3), drawn(RANDOM, 3)
    one, other = difference(a, b, 0.9), difference(a, 0.9 * b)
    assert (one.value, one.p, one.low) == pytest.approx((other.value, other.p, other.low))


def test_no_difference_at_all():
    same = np.tile(RANDOM.random(50), (2, 1))
    assert difference(same, same).p == 1.0
    assert difference(same + 1, same).p == 0.0
    assert difference(same + 0.1 + 0.2, same + 0.3).p == 1.0  # rounding


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 3), (2, 4), (5, 5)])
@pytest.mark.parametrize("of_seeds", [0.5, 2.0])
def test_it_rejects_methods_that_are_equal_no_more_often_than_it_says(n, m, of_seeds):
    random = np.random.default_rng([n, m])
    pairs = ((drawn(random, n, 60, of_seeds=of_seeds), drawn(random, m, 60, of_seeds=of_seeds)) for _ in range(600))
    rejected = np.mean([difference(a, b).p < 0.05 for a, b in pairs])
    assert rejected < 0.05 + 3 * (0.05 * 0.95 / 600) ** 0.5


@pytest.mark.parametrize(("n", "found"), [(3, 0.72), (10, 0.8)])
def test_what_is_detectable_is_found_about_four_times_in_five(n, found):
    random = np.random.default_rng(1)
    size = np.median([difference(drawn(random, n, 60), drawn(random, n, 60)).detectable for _ in range(300)])
    p = [difference(drawn(random, n, 60, mean=size), drawn(random, n, 60)).p for _ in range(600)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(found, abs=0.07)


def test_the_seeds_it_asks_for_find_the_difference_four_times_in_five():
    random = np.random.default_rng(2)
    # Variances known from many seeds, and a difference that takes about ten.
    known = difference(drawn(random, 400, 60), drawn(random, 400, 60)).variances
    asked = Difference(0.24, 0, 0, 1, (3, 3), True, known)
    assert 8 <= asked.seeds_needed <= 13
    n = asked.seeds_needed
    p = [difference(drawn(random, n, 60, mean=0.24), drawn(random, n, 60)).p for _ in range(600)]
    assert 0.74 < np.mean(np.array(p) < 0.05) < 0.9  # seeds are whole, and one more than needed may be asked for
    assert replace(asked, level=0.01).seeds_needed > n
    assert Difference(0.24, 0, 0, 1, (3, 30), True, known).seeds_needed < n


def test_more_seeds_do_not_help_where_users_are_too_few():
    few = np.random.default_rng(3).random((2, 10))
    found = difference(np.tile(few[0], (2, 1)) + np.array([[0], [1e-9]]), np.tile(few[1], (2, 1)))
    assert found.seeds_needed is None


def test_p_is_corrected_among_those_tested_alike():
    single = [difference(drawn(RANDOM, 1), drawn(RANDOM, 1)) for _ in range(2)]
    several = [difference(drawn(RANDOM, 3), drawn(RANDOM, 3)) for _ in range(3)]
    mixed = corrected([single[0], several[0], None, several[1], single[1], several[2]])
    assert [mixed[place].p for place in (0, 4)] == holm([each.p for each in single])
    assert [mixed[place].p for place in (1, 3, 5)] == holm([each.p for each in several])
    assert mixed[2] is None
    assert mixed[1].level == pytest.approx(0.05 / 3)
    assert mixed[1].detectable > several[0].detectable


def test_cells_are_compared_over_all_their_runs_whatever_their_seeds(tmp_path):
    random = np.random.default_rng(0)
    ranks = {("ce", seed): random.integers(0, 14, 200) for seed in (0, 1, 2)}
    ranks |= {("bpr", seed): random.integers(0, 25, 200) for seed in (2, 7)}
    for (loss, seed), of_run in ranks.items():
        make_run(tmp_path / f"{loss}{seed}", loss=loss, seed=seed, ranks=of_run)
    make_run(tmp_path / "single", loss="sce", ranks=ranks["ce", 0])
    bpr, ce, sce = cells_of(find_runs(tmp_path))
    arrays = [np.stack([gains("ndcg", ranks[key], 10) for key in ranks if key[0] == loss]) for loss in ("ce", "bpr")]
    assert compare_cells(ce, bpr, "ndcg", 10) == difference(*arrays)
    assert compare_cells(sce, bpr, "ndcg", 10).seeds == (1, 2)
    assert not compare_cells(sce, bpr, "ndcg", 10).over_seeds
    # Under uniform popularity the items are what is sampled: seven, of 28 or 29 users each.
    of_items = [np.stack([each[:, item == NUMBERS % 7].mean(1) for item in range(7)], axis=1) for each in arrays]
    found, expected = compare_cells(ce, bpr, "ndcg", 10, "uniform"), difference(*of_items)
    assert (found.value, found.p) == pytest.approx((expected.value, expected.p))


def test_a_single_user_is_not_tested(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path / f"{seed}", seed=seed, ranks=np.ones(200, dtype=np.int64))
        path = tmp_path / f"{seed}" / "ranks.parquet"
        parquet.write_table(parquet.read_table(path).slice(0, 1), path)
    (cell,) = cells_of(find_runs(tmp_path))
    assert compare_cells(cell, cell, "ndcg", 10) is None


def test_holm_is_the_step_down_procedure():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
