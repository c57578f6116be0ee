import numpy as np
import pytest
from scipy import stats

from recsys_lt.analysis.cells import cells_of
from recsys_lt.analysis.runs import find_runs
from recsys_lt.analysis.significance import LEAST, _permutation, holm, paired_p_value
from tests.table.made import make_run


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.15])
def test_flips_give_what_an_exact_or_larger_test_gives(shift):
    random = np.random.default_rng(3)
    difference = random.normal(shift, 0.5, 300) * (random.random(300) < 0.6)
    expected = stats.permutation_test(
        (difference,), np.mean, permutation_type="samples", n_resamples=9_999, rng=np.random.default_rng(1)
    ).pvalue
    assert _permutation(difference) == pytest.approx(expected, abs=0.02)


def test_few_users_are_close_to_all_flips():
    difference = np.array([1.0, 2.0, 3.0, 0.0, 0.0])
    # Of the eight sign patterns two are as far from zero.
    assert _permutation(difference) == pytest.approx(0.25, abs=0.02)


def test_users_without_a_difference_change_nothing():
    difference = np.random.default_rng(0).normal(0.1, 1, 50)
    assert _permutation(np.concatenate([difference, np.zeros(500)])) == _permutation(difference)


def test_a_share_of_the_reference_is_what_a_cell_is_held_against(tmp_path):
    ranks = np.random.default_rng(0).integers(1, 30, 200)
    make_run(tmp_path / "a", ranks=ranks)
    make_run(tmp_path / "b", loss="sce", ranks=ranks)
    a, b = cells_of(find_runs(tmp_path))
    assert paired_p_value(a, b, "ndcg", 10) == 1.0
    assert paired_p_value(a, b, "ndcg", 10, share=0.5) == LEAST


def test_holm_is_the_step_down_procedure():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
