import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lt.data import streams
from recsys_lt.data.streams import FeistelOrder, order_of

keys = st.integers(-(1 << 63), (1 << 63) - 1)


@given(key=keys, n=st.integers(0, 600))
def test_the_formula_is_a_permutation(key, n):
    order = FeistelOrder(key, n)[:]
    assert order.dtype == np.int64
    assert np.sort(order).tolist() == list(range(n))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 63, 64, 65, 255, 256, 257, 65_535, 65_537])
def test_sizes_about_powers_of_two(n):
    assert (np.sort(FeistelOrder(5, n)[:]) == np.arange(n)).all()


@pytest.mark.parametrize("kind", [FeistelOrder, order_of])
@given(key=keys, n=st.integers(1, 300), first=st.integers(0, 310), length=st.integers(0, 40))
def test_a_slice_is_that_of_the_whole(kind, key, n, first, length):
    part = kind(key, n)[first : first + length]
    assert part.dtype == np.int64
    assert part.tolist() == kind(key, n)[:].tolist()[first : first + length]


@pytest.mark.parametrize("kind", [FeistelOrder, order_of])
def test_keys_have_orders_of_their_own(kind):
    orders = {tuple(kind(key, 50)[:].tolist()) for key in range(100)}
    assert len(orders) == 100


def test_a_row_stands_anywhere_and_far_from_its_neighbours():
    n = 4_000
    order = FeistelOrder(11, n)[:]
    # Of a random order the mean distance of neighbours is n / 3, that of a row from its own place too.
    for distance in (np.abs(np.diff(order)), np.abs(order - np.arange(n))):
        assert abs(distance.mean() - n / 3) < 5 * n / (18 * n) ** 0.5
    counts = np.zeros((5, 5))
    for key in range(2_000):
        counts[np.arange(5), FeistelOrder(key, 5)[:]] += 1
    assert np.abs(counts / 2_000 - 1 / 5).max() < 4.5 * (0.2 * 0.8 / 2_000) ** 0.5


def test_few_rows_are_shuffled_as_they_always_were():
    """Published numbers hang on the order of small data: neither numpy nor we may change it."""
    key = -7
    order = order_of(key, 12)[:]
    assert order.tolist() == [0, 1, 2, 5, 11, 10, 8, 4, 6, 3, 7, 9]
    generator = np.random.Generator(np.random.Philox(key=key & ((1 << 64) - 1)))
    assert order.tolist() == generator.permutation(12).tolist()


def test_many_rows_go_by_the_formula(monkeypatch):
    order_of.cache_clear()
    monkeypatch.setattr(streams, "LISTED", 11)
    assert isinstance(order_of(3, 11), np.ndarray)
    assert isinstance(order_of(3, 12), FeistelOrder)
    assert order_of(-7, 12)[:].tolist() == [3, 9, 2, 11, 5, 10, 7, 8, 4, 6, 1, 0]  # kept as well: runs are resumed
    order_of.cache_clear()
