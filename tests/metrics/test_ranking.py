import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lt.metrics.ranking import gains, ranking

SCORES = st.integers(1, 6).flatmap(
    lambda users: st.lists(st.lists(st.integers(0, 9), min_size=8, max_size=8), min_size=users, max_size=users)
)


def brute_force(scores, targets, metric, k):
    """Sort the catalogue, worst case among ties, and read the list."""
    total = 0.0
    for row, target in zip(scores, targets, strict=True):
        order = sorted(range(len(row)), key=lambda item: (-row[item], item == target))
        place = order.index(target) + 1
        if place <= k:
            total += {"hr": 1.0, "ndcg": 1 / np.log2(1 + place), "mrr": 1 / place}[metric]
    return total / len(targets)


@given(scores=SCORES, data=st.data(), k=st.integers(1, 8))
def test_equal_to_sorting_the_catalogue(scores, data, k):
    targets = [data.draw(st.integers(0, 7)) for _ in scores]
    table = np.array(scores)
    ranks = (table >= table[np.arange(len(targets)), targets][:, None]).sum(1)
    values = ranking(ranks, [k])
    for metric in ("hr", "ndcg", "mrr"):
        assert values[f"{metric}@{k}"] == pytest.approx(brute_force(scores, targets, metric, k))


def test_zero_is_a_miss():
    assert ranking(np.array([0, 1]), [5]) == {"hr@5": 0.5, "ndcg@5": 0.5, "mrr@5": 0.5}


def test_what_a_list_does_not_reach_is_missing():
    values = ranking(np.array([1, 0]), [5, 10], depth=5)
    assert values["hr@5"] == 0.5
    assert values["hr@10"] is None
    assert values["ndcg@10"] is None


def test_no_users_is_missing():
    assert set(ranking(np.array([], dtype=np.int64), [10]).values()) == {None}


def test_refuses_negative_ranks_and_unknown_metrics():
    with pytest.raises(ValueError, match="1-based"):
        gains("hr", np.array([-1]), 10)
    with pytest.raises(ValueError, match="recall"):
        gains("recall", np.array([1]), 10)
