import json

import numpy as np
import pytest

from recsys_lt.metrics.groups import HEAD, ItemGroups, popularity_groups
from recsys_lt.metrics.long_tail import deciles, histories
from recsys_lt.metrics.ranking import ranking

RANDOM = np.random.default_rng(0)
POPULARITY = RANDOM.zipf(1.6, 105).clip(max=900) - 1
GROUPS = ItemGroups(POPULARITY, popularity_groups(POPULARITY))
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
    groups = ItemGroups(popularity, popularity_groups(popularity))
    head = np.flatnonzero(groups.of == HEAD)
    found = deciles(np.ones(100, dtype=np.int64), np.arange(100), groups.of == HEAD, groups)
    assert [part["exposure"] for part in found] == [0.5, 0.5] + [0.0] * 8
    assert sum(part["items"] for part in found[:2]) == len(head)


def test_where_there_is_nothing_it_says_so():
    popularity = np.zeros(3, dtype=np.int64)
    groups = ItemGroups(popularity, popularity_groups(popularity))
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
