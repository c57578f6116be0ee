import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lt.metrics.groups import HEAD, ItemGroups
from recsys_lt.metrics.long_tail import deciles, equal_bins, histories, served_users, uniform
from recsys_lt.metrics.ranking import ranking

RANDOM = np.random.default_rng(0)
POPULARITY = RANDOM.zipf(1.6, 105).clip(max=900) - 1
GROUPS = ItemGroups(POPULARITY)
EXPOSED = RANDOM.integers(0, 50, 105)
TARGETS = RANDOM.integers(0, 105, 600)
RANKS = RANDOM.integers(0, 40, 600)


def test_deciles_are_those_of_a_plain_sort():
    found = deciles(RANKS, TARGETS, EXPOSED, GROUPS)
    ordered = sorted(range(105), key=lambda item: (-POPULARITY[item], item))
    sizes = [part["items"] for part in found]
    assert sizes == [11] * 5 + [10] * 5
    first = 0
    for part in found:
        items = ordered[first : first + part["items"]]
        first += part["items"]
        inside = np.isin(TARGETS, items)
        assert part["users"] == inside.sum()
        assert part["ndcg@10"] == pytest.approx(ranking(RANKS[inside], [10])["ndcg@10"])
        assert part["low"] <= part["ndcg@10"] <= part["high"]
        assert part["exposure"] == pytest.approx(EXPOSED[items].sum() / EXPOSED.sum())
        assert part["interactions"] == pytest.approx(POPULARITY[items].sum() / POPULARITY.sum())
        assert (part["least"], part["most"]) == (POPULARITY[items].min(), POPULARITY[items].max())
    assert json.loads(json.dumps(found)) == found


def test_the_first_two_tenths_are_the_head():
    popularity = np.arange(100, 0, -1)
    groups = ItemGroups(popularity)
    head = np.flatnonzero(groups.of == HEAD)
    found = deciles(np.ones(100, dtype=np.int64), np.arange(100), groups.of == HEAD, groups)
    assert [part["exposure"] for part in found] == [0.5, 0.5] + [0.0] * 8
    assert sum(part["items"] for part in found[:2]) == len(head)


def test_where_there_is_nothing_it_says_so():
    popularity = np.zeros(3, dtype=np.int64)
    groups = ItemGroups(popularity)
    found = deciles(np.array([1]), np.array([2]), popularity, groups)
    assert [part["users"] for part in found] == [0, 0, 1]
    assert [part["ndcg@10"] for part in found] == [None, None, 1.0]
    assert {part[share] for part in found for share in ("exposure", "interactions")} == {None}


def test_histories_part_the_users_by_length():
    lengths = RANDOM.geometric(0.15, 600) + 2
    found = histories(RANKS, TARGETS, lengths, GROUPS)
    assert 4 <= len(found) <= 8
    assert sum(part["users"] for part in found) == 600
    for part in found:
        inside = (lengths >= part["shortest"]) & (lengths <= part["longest"])
        nonhead = inside & (GROUPS.of[TARGETS] != HEAD)
        assert (part["users"], part["nonhead"]["users"]) == (inside.sum(), nonhead.sum())
        assert part["ndcg@10"] == pytest.approx(ranking(RANKS[inside], [10])["ndcg@10"])
        assert part["nonhead"]["ndcg@10"] == pytest.approx(ranking(RANKS[nonhead], [10])["ndcg@10"])
    assert json.loads(json.dumps(found)) == found


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(1, 12))
def test_every_user_is_in_one_bin_and_bins_ascend(counts, n_bins):
    counts = np.array(counts)
    bins = equal_bins(counts, n_bins)
    assert 1 <= len(bins) <= n_bins
    assert np.sum(bins, axis=0).tolist() == [1] * len(counts)
    for lower, upper in pairwise(bins):
        assert counts[lower].max() < counts[upper].min()


def test_distinct_counts_make_equal_bins():
    assert [b.sum() for b in equal_bins(np.random.default_rng(0).permutation(80), 8)] == [10] * 8


def test_what_many_share_costs_the_others_no_bins():
    counts = np.array([4] * 700 + list(range(5, 305)))
    assert [b.sum() for b in equal_bins(counts, 4)] == [700, 100, 100, 100]


def test_bins_part_the_users_and_keep_equals_together():
    counts = np.array([1] * 50 + list(range(2, 52)))
    bins = equal_bins(counts, 10)
    assert np.sum(bins, axis=0).tolist() == [1] * 100
    assert bins[0].sum() == 50
    assert 4 <= len(bins) <= 10


def test_bootstrap_interval_is_that_of_the_mean():
    values = np.random.default_rng(0).choice([0.0, 0.5, 1.0], 2000)
    _, mean, low, high = served_users(values).values()
    error = values.std() / np.sqrt(2000)
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(mean - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.3 * error)


def test_uniform_popularity_is_a_mean_over_items_with_its_interval():
    found = uniform(RANKS, TARGETS)
    of_items = [ranking(RANKS[item == TARGETS], [10])["ndcg@10"] for item in np.unique(TARGETS)]
    assert found["items"] == len(of_items)
    assert found["ndcg@10"] == pytest.approx(np.mean(of_items))
    half = 1.96 * np.std(of_items) / len(of_items) ** 0.5
    assert (found["low"], found["high"]) == pytest.approx(
        (np.mean(of_items) - half, np.mean(of_items) + half), abs=0.2 * half
    )
