import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lt.metrics.all_metrics import all_metrics
from recsys_lt.metrics.exposure import Exposure
from recsys_lt.metrics.groups import popularity_groups

POPULARITY = np.array([50, 20, 20, 10, 8, 6, 4, 3, 2, 1])
GROUPS = popularity_groups(POPULARITY)
USERS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=1, max_size=30)


@given(users=USERS)
def test_groups_weighted_by_users_give_the_overall_metrics(users):
    ranks, targets = np.array(users).T
    values = all_metrics(ranks, targets, None, POPULARITY, GROUPS, [1, 10])
    assert values["users"] == len(users)
    for metric in ("hr@1", "hr@10", "ndcg@10", "mrr@10"):
        for parts in (("head", "mid", "tail"), ("head", "nonhead")):
            weighted = sum(values[f"{p}/users"] * (values[f"{p}/{metric}"] or 0.0) for p in parts)
            assert weighted / len(users) == pytest.approx(values[metric])


def test_a_group_without_users_is_null():
    values = all_metrics(np.array([1]), np.array([0]), None, POPULARITY, GROUPS, [10])
    assert values["head/hr@10"] == 1
    assert values["tail/users"] == 0
    assert values["tail/hr@10"] is None
    assert not any("exposure" in key or key.startswith("arp") for key in values)
    assert json.loads(json.dumps(values)) == values


def test_the_contract_of_a_test_report():
    exposure = Exposure(10, [5])
    exposure.update(np.array([[0, 1, 2, 3, 4]]))
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
    exposure = Exposure(10, [10])
    exposure.update(np.array([[4, 9, *[-1] * 8]]))
    usual = all_metrics(np.array([1]), np.array([4]), exposure, POPULARITY, GROUPS, [10])
    other = popularity_groups(POPULARITY[::-1])
    turned = all_metrics(np.array([1]), np.array([9]), exposure, POPULARITY, other, [10])
    assert (usual["mid/users"], turned["head/users"]) == (1, 1)
    assert (usual["tail/exposure@10"], turned["head/exposure@10"]) == (0.5, 0.5)
    assert usual["arp@10"] == turned["arp@10"] == 4.5


def test_refuses_ranks_without_targets():
    with pytest.raises(ValueError, match="do not fit"):
        all_metrics(np.array([1, 2]), np.array([0]), None, POPULARITY, GROUPS, [10])
