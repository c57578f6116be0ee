import numpy as np
import pytest

from recsys_lt.metrics.exposure import Exposure, exposure_metrics, gini
from recsys_lt.metrics.groups import popularity_groups

POPULARITY = np.array([50, 20, 20, 10, 8, 6, 4, 3, 2, 1])
GROUPS = popularity_groups(POPULARITY)


def metrics(exposure, k):
    return exposure_metrics(exposure.counts[exposure.ks.index(k)], POPULARITY, GROUPS, k)


def test_gini_by_hand():
    assert gini(np.array([0, 0, 0, 1])) == pytest.approx(0.75)
    assert gini(np.array([7, 7, 7])) == pytest.approx(0.0)
    assert gini(np.array([0, 0])) is None


def test_gini_is_the_mean_absolute_difference_form():
    counts = np.random.default_rng(0).integers(0, 20, 30)
    differences = np.abs(counts[:, None] - counts[None, :]).sum()
    assert gini(counts) == pytest.approx(differences / (2 * 30**2 * counts.mean()))


def test_by_hand():
    exposure = Exposure(10, [1, 3])
    exposure.update(np.array([[0, 1, 9], [0, 8, 4]]))
    at_1, at_3 = metrics(exposure, 1), metrics(exposure, 3)
    assert at_1["arp@1"] == 50
    assert at_1["coverage@1"] == 0.1
    assert at_3["arp@3"] == pytest.approx(((50 + 20 + 1) / 3 + (50 + 2 + 8) / 3) / 2)
    assert at_3["aplt@3"] == pytest.approx((1 / 3 + 1 / 3) / 2)
    assert at_3["coverage@3"] == 0.5
    assert at_3["head/exposure@3"] == pytest.approx(3 / 6)
    assert at_3["mid/exposure@3"] == pytest.approx(1 / 6)
    assert at_3["tail/exposure@3"] == pytest.approx(2 / 6)


def test_a_most_popular_recommender_covers_k_items():
    exposure = Exposure(10, [4])
    exposure.update(np.tile(np.argsort(-POPULARITY, kind="stable")[:4], (25, 1)))
    values = metrics(exposure, 4)
    assert values["coverage@4"] == pytest.approx(4 / 10)
    assert values["gini@4"] == pytest.approx(1 - 4 / 10)


def test_a_random_recommender_is_even():
    exposure = Exposure(10, [5])
    rng = np.random.default_rng(1)
    exposure.update(rng.permuted(np.tile(np.arange(10), (5000, 1)), axis=1)[:, :5])
    values = metrics(exposure, 5)
    assert values["coverage@5"] == 1
    assert values["gini@5"] < 0.02
    assert values["aplt@5"] == pytest.approx(0.2, abs=0.01)


def test_batches_change_nothing():
    lists = np.random.default_rng(2).integers(0, 10, (40, 6))
    whole, left, right = (Exposure(10, [2, 6]) for _ in range(3))
    whole.update(lists)
    left.update(lists[:7])
    right.update(lists[7:20])
    right.update(lists[20:])
    np.testing.assert_array_equal(left.counts + right.counts, whole.counts)


def test_empty_places_and_nothing_at_all():
    exposure = Exposure(10, [3])
    assert metrics(exposure, 3)["arp@3"] is None
    assert metrics(exposure, 3)["coverage@3"] == 0
    exposure.update(np.array([[0, -1, -1], [9, 1, -1]]))
    assert metrics(exposure, 3)["arp@3"] == pytest.approx((50 + 1 + 20) / 3)
    with pytest.raises(ValueError, match="cannot be counted"):
        exposure.update(np.array([[0, 1]]))
