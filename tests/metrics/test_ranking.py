import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lt.metrics.ranking import by_item, gains, random_order, ranking

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


@given(ranks=st.lists(st.integers(0, 5), min_size=1, max_size=3), n=st.integers(1, 3), k=st.integers(1, 5))
@settings(deadline=None, max_examples=50)
def test_a_random_order_is_the_mean_over_all_orders(ranks, n, k):
    """Every order of each user's candidates, which are the first n; the rest of a list stays as it is."""
    of_user = []
    for rank in ranks:
        orders = itertools.permutations(range(1, n + 1))
        of_user.append([order[rank - 1] if 1 <= rank <= n else rank for order in orders])
    every = [ranking(np.array(new), [k]) for new in itertools.product(*of_user)]
    found = random_order(np.array(ranks), n, [k])
    for metric in ("hr", "ndcg", "mrr"):
        assert found[f"{metric}@{k}"] == pytest.approx(np.mean([values[f"{metric}@{k}"] for values in every]))
    assert found[f"ndcg_std@{k}"] == pytest.approx(np.std([values[f"ndcg@{k}"] for values in every]), abs=1e-9)


def test_a_random_order_of_the_kept_run():
    """75 of 200 targets among 20 candidates: what a random order of them reaches, to the digits that are printed."""
    ranks = np.array([7] * 75 + [300] * 125)
    found = random_order(ranks, 20, [10, 20])
    assert (round(found["ndcg@10"], 4), round(found["ndcg_std@10"], 4)) == (0.0852, 0.0117)
    assert (found["hr@10"], found["hr@20"]) == (0.1875, 0.375)
    assert random_order(ranks[:0], 20, [10]) == dict.fromkeys(("hr@10", "ndcg@10", "mrr@10", "ndcg_std@10"))


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
    with pytest.raises(KeyError, match="recall"):
        gains("recall", np.array([1]), 10)


def test_every_target_item_counts_alike_whatever_its_users():
    targets = np.array([7, 2, 7, 7, 5])
    items, means = by_item(np.array([1.0, 0.0, 0.5, 0.0, 1.0]), targets)
    assert items.tolist() == [2, 5, 7]
    assert means.tolist() == [0.0, 1.0, 0.5]
    ranks = np.array([1, 0, 2, 9, 1])
    assert ranking(ranks, [1], targets=targets)["hr@1"] == pytest.approx((0 + 1 + 1 / 3) / 3)
    assert ranking(ranks, [1])["hr@1"] == 2 / 5
    each = ranking(ranks, [1, 5], targets=np.arange(5))  # an item a user: the usual mean
    assert each == pytest.approx(ranking(ranks, [1, 5]))
    none = np.zeros(0, dtype=np.int64)
    assert ranking(none, [5], targets=none)["ndcg@5"] is None
    assert ranking(ranks, [5], depth=3, targets=targets)["ndcg@5"] is None
