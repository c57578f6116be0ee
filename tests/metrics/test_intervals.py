from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lt.metrics.intervals import bootstrap_mean, equal_bins


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
    bins = equal_bins(counts)
    assert np.sum(bins, axis=0).tolist() == [1] * 100
    assert bins[0].sum() == 50
    assert 4 <= len(bins) <= 10


def test_bootstrap_interval_is_that_of_the_mean():
    values = np.random.default_rng(0).choice([0.0, 0.5, 1.0], 2000)
    mean, low, high = bootstrap_mean(values)
    error = values.std() / np.sqrt(2000)
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(mean - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.3 * error)
