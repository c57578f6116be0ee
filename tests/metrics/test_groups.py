import numpy as np
import pytest

from recsys_lt.metrics.groups import HEAD, MID, TAIL, ItemGroups


def test_by_hand():
    groups = ItemGroups(np.array([5, 1, 9, 2, 7, 3, 8, 4, 6, 10])).of
    assert groups.dtype == np.int8
    assert np.flatnonzero(groups == HEAD).tolist() == [2, 9]
    assert np.flatnonzero(groups == TAIL).tolist() == [1, 3]
    assert (groups == MID).sum() == 6


def test_of_equal_counts_the_lower_id_is_more_popular():
    assert ItemGroups(np.full(5, 3)).of.tolist() == [HEAD, MID, MID, MID, TAIL]
    # Two share third place; the cut falls between them.
    assert ItemGroups(np.array([4, 4, 9, 9, 9]), [0.8, 0.1, 0.1]).of[:2].tolist() == [HEAD, TAIL]


def test_an_item_without_training_interactions_is_tail():
    assert ItemGroups(np.array([3, 0, 0, 0, 0])).of.tolist() == [HEAD, TAIL, TAIL, TAIL, TAIL]


def test_shares_of_a_catalogue_that_does_not_divide():
    sizes = np.bincount(ItemGroups(np.arange(12101) + 1).of)
    assert sizes.tolist() == [2420, 7261, 2420]


@pytest.mark.parametrize("n_items", [1, 2, 3, 7])
def test_small_catalogues_keep_every_item(n_items):
    assert len(ItemGroups(np.ones(n_items, dtype=np.int64), [0.5, 0.1, 0.4]).of) == n_items


def test_equal_counts_may_be_told_apart_by_another_count():
    counts, all_time = np.array([2, 2, 5, 0, 0]), np.array([3, 9, 9, 1, 8])
    assert ItemGroups(counts).order.tolist() == [2, 0, 1, 3, 4]
    assert ItemGroups(counts, ties=all_time).order.tolist() == [2, 1, 0, 4, 3]
    assert ItemGroups(counts, [0.4, 0.2, 0.4], all_time).of.tolist() == [MID, HEAD, HEAD, TAIL, TAIL]
    assert ItemGroups(counts, [0.4, 0.2, 0.4]).of.tolist() == [HEAD, MID, HEAD, TAIL, TAIL]
