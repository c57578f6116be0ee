import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lt.metrics.all_metrics import all_metrics, expose, exposure_metrics, first_code_metrics, gini
from recsys_lt.metrics.groups import ItemGroups

POPULARITY = np.array([50, 20, 20, 10, 8, 6, 4, 3, 2, 1])
GROUPS = ItemGroups(POPULARITY).of
USERS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=1, max_size=30)


def nothing(ks):
    return {k: np.zeros(10, dtype=np.int64) for k in ks}


def metrics(exposure, k):
    return exposure_metrics(exposure[k], POPULARITY, GROUPS, k)


@given(users=USERS)
def test_groups_weighted_by_users_give_the_overall_metrics(users):
    ranks, targets = np.array(users).T
    values = all_metrics(ranks, targets, {}, POPULARITY, GROUPS, [1, 10])
    assert values["users"] == len(users)
    for metric in ("hr@1", "hr@10", "ndcg@10", "mrr@10"):
        for parts in (("head", "mid", "tail"), ("head", "nonhead")):
            weighted = sum(values[f"{p}/users"] * (values[f"{p}/{metric}"] or 0.0) for p in parts)
            assert weighted / len(users) == pytest.approx(values[metric])


def test_a_group_without_users_is_null():
    values = all_metrics(np.array([1]), np.array([0]), {}, POPULARITY, GROUPS, [10])
    assert values["head/hr@10"] == 1
    assert values["tail/users"] == 0
    assert values["tail/hr@10"] is None
    assert not any("exposure" in key or key.startswith("arp") for key in values)
    assert json.loads(json.dumps(values)) == values


def test_the_contract_of_a_test_report():
    exposure = nothing([5])
    expose(exposure, np.array([[0, 1, 2, 3, 4]]))
    values = all_metrics(np.array([2]), np.array([1]), exposure, POPULARITY, GROUPS, [5, 10], depth=5)
    for k in (5, 10):
        names = [f"{name}@{k}" for name in ("ndcg", "hr", "mrr", "arp", "aplt", "coverage", "gini")]
        names += [f"{group}/ndcg@{k}" for group in ("head", "mid", "tail", "nonhead")]
        names += [f"{group}/exposure@{k}" for group in ("head", "mid", "tail")]
        assert set(names) <= set(values)
        if k == 10:  # beyond the list: not measured
            assert all(values[name] is None for name in names)
    assert values["coverage@5"] == 0.5


def test_groups_say_what_is_head_and_popularity_what_arp_is_a_mean_of():
    exposure = nothing([10])
    expose(exposure, np.array([[4, 9, *[-1] * 8]]))
    usual = all_metrics(np.array([1]), np.array([4]), exposure, POPULARITY, GROUPS, [10])
    other = ItemGroups(POPULARITY[::-1]).of
    turned = all_metrics(np.array([1]), np.array([9]), exposure, POPULARITY, other, [10])
    assert (usual["mid/users"], turned["head/users"]) == (1, 1)
    assert (usual["tail/exposure@10"], turned["head/exposure@10"]) == (0.5, 0.5)
    assert usual["arp@10"] == turned["arp@10"] == 4.5


def test_gini_by_hand():
    assert gini(np.array([0, 0, 0, 1])) == pytest.approx(0.75)
    assert gini(np.array([7, 7, 7])) == pytest.approx(0.0)
    assert gini(np.array([0, 0])) is None


def test_gini_is_the_mean_absolute_difference_form():
    counts = np.random.default_rng(0).integers(0, 20, 30)
    differences = np.abs(counts[:, None] - counts[None, :]).sum()
    assert gini(counts) == pytest.approx(differences / (2 * 30**2 * counts.mean()))


def test_by_hand():
    exposure = nothing([1, 3])
    expose(exposure, np.array([[0, 1, 9], [0, 8, 4]]))
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
    exposure = nothing([4])
    expose(exposure, np.tile(np.argsort(-POPULARITY, kind="stable")[:4], (25, 1)))
    values = metrics(exposure, 4)
    assert values["coverage@4"] == pytest.approx(4 / 10)
    assert values["gini@4"] == pytest.approx(1 - 4 / 10)


def test_a_random_recommender_is_even():
    exposure = nothing([5])
    rng = np.random.default_rng(1)
    expose(exposure, rng.permuted(np.tile(np.arange(10), (5000, 1)), axis=1)[:, :5])
    values = metrics(exposure, 5)
    assert values["coverage@5"] == 1
    assert values["gini@5"] < 0.02
    assert values["aplt@5"] == pytest.approx(0.2, abs=0.01)


def test_batches_change_nothing():
    lists = np.random.default_rng(2).integers(0, 10, (40, 6))
    whole, left, right = (nothing([2, 6]) for _ in range(3))
    expose(whole, lists)
    expose(left, lists[:7])
    expose(right, lists[7:20])
    expose(right, lists[20:])
    for k, counts in whole.items():
        np.testing.assert_array_equal(left[k] + right[k], counts)


def test_empty_places_and_nothing_at_all():
    exposure = nothing([3])
    assert metrics(exposure, 3)["arp@3"] is None
    assert metrics(exposure, 3)["coverage@3"] == 0
    expose(exposure, np.array([[0, -1, -1], [9, 1, -1]]))
    assert metrics(exposure, 3)["arp@3"] == pytest.approx((50 + 1 + 20) / 3)


def test_first_codes_of_recommendations_and_of_targets_by_hand():
    codes = np.array([7, 7, 2, 2, 9])  # the codes are shown 6, 0 and 2 times, and are targets 1, 1 and 2 times
    exposed, targets = np.array([4, 2, 0, 0, 2]), np.array([1, 3, 4, 4])
    found = first_code_metrics(codes, exposed, targets, 10)
    assert found == {
        "first_code/gini@10": pytest.approx((0 * -2 + 2 * 0 + 6 * 2) / (3 * 8)),
        "first_code/targets_gini": pytest.approx((1 * -2 + 1 * 0 + 2 * 2) / (3 * 4)),
        "first_code/distance@10": pytest.approx((abs(6 / 8 - 1 / 4) + abs(0 - 1 / 4) + abs(2 / 8 - 2 / 4)) / 2),
    }
    same = first_code_metrics(codes, np.array([0, 1, 1, 0, 2]), targets, 10)
    assert same["first_code/distance@10"] == 0
    nothing = first_code_metrics(codes, np.zeros(5, np.int64), targets, 5)
    assert [name for name, value in nothing.items() if value is None] == ["first_code/gini@5", "first_code/distance@5"]
