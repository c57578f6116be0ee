import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from recsys_lt.data import streams
from recsys_lt.data.streams import FeistelOrder, integers, key_of, keys_of, lanes, order_of, unseen_pool, words

MASK = (1 << 64) - 1
ints = st.integers(-(2**63), 2**63 - 1)


def keys(n, *parts):
    return keys_of(key_of(*parts), torch.arange(n))


def uniform(counts):
    return chisquare(counts.numpy()).pvalue > 1e-3


def correlation(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (a.norm() * b.norm()))


def test_words_are_splitmix64():
    """The first outputs of the reference implementation (Vigna's splitmix64.c) from states 0 and 1234567."""
    expected = [
        [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F],
        [6457827717110365317, 3203168211198807973, 9817491932198370423],
    ]
    found = words(torch.tensor([0, 1234567]), 3)
    assert [[word & MASK for word in row] for row in found.tolist()] == expected


def test_key_of_is_fixed():
    """Keys are in every result ever recorded: a change of the hash must not go unnoticed."""
    assert key_of(0) & MASK == 0xE220A8397B1DCDAF
    assert key_of() == 0
    assert key_of(1, 2, 3) == key_of(1, 2, 3)
    assert key_of(-1) == key_of(MASK)


@given(a=ints, b=ints)
def test_the_order_and_number_of_parts_matter(a, b):
    assert -(2**63) <= key_of(a, b) < 2**63
    assert (key_of(a, b) == key_of(b, a)) == (a == b)
    assert key_of(a) != key_of(a, 0)
    assert key_of(a) != key_of(0, a)


def test_no_keys_collide():
    small = range(-3, 20)
    assert len({key_of(a, b, c) for a in small for b in small for c in small}) == 23**3
    assert len({key_of(1, 1 << bit) for bit in range(64)}) == 64
    every = torch.cat([keys(10_000, seed, epoch) for seed in range(5) for epoch in range(5)])
    assert len(every.unique()) == len(every)


@given(key=ints, ids=st.lists(ints, min_size=1, max_size=9))
def test_a_key_has_the_same_numbers_in_any_company_and_count(key, ids):
    ids = torch.tensor(ids)
    kept = ids.clone()
    found = keys_of(key, ids)
    assert torch.equal(ids, kept)
    for count in (1, 5, 8):
        for draw in (words, lanes, lambda k, n: integers(k, n, 1000)):
            whole = draw(found, 9)
            assert torch.equal(draw(found, count), whole[:, :count])
            assert torch.equal(draw(found, count), draw(found, count))
            assert torch.equal(draw(found.flip(0)[:1], count), whole[-1:, :count])


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 64])
def test_shapes_and_types(count):
    some = keys(7, 1)
    assert words(some, count).shape == lanes(some, count).shape == integers(some, count, 5).shape == (7, count)
    assert words(some, count).dtype == integers(some, count, 5).dtype == torch.int64
    assert lanes(some, count).dtype == torch.int16
    assert lanes(some[:0], count).shape == (0, count)


@pytest.mark.parametrize("lane", range(8))
def test_lanes_are_uniform(lane):
    drawn = lanes(keys(50_000, 3, 1), 8)[:, lane].long() + 32768
    assert uniform(torch.bincount(drawn >> 8, minlength=256))  # the high byte, and the low one
    assert uniform(torch.bincount(drawn & 255, minlength=256))


def test_lanes_take_every_value():
    drawn = lanes(keys(5_000, 1), 256).long() + 32768
    counts = torch.bincount(drawn.flatten(), minlength=65536)
    assert len(counts) == 65536
    assert uniform(counts)


@pytest.mark.parametrize("high", [1, 2, 3, 7, 100, 1000])
def test_integers_are_uniform(high):
    drawn = integers(keys(2_000, 4, high), 50, high)
    counts = torch.bincount(drawn.flatten(), minlength=high)
    assert len(counts) == high
    assert high == 1 or uniform(counts)


def test_integers_of_a_wide_range():
    high = 1 << 62
    drawn = integers(keys(20_000, 4), 4, high)
    assert drawn.min() >= 0
    assert drawn.max() < high
    assert uniform(torch.bincount((drawn >> 54).flatten(), minlength=256))


def test_ids_keys_epochs_and_seeds_are_uncorrelated():
    n, count = 2_000, 64
    bound = 4 / math.sqrt(n * count)
    base = lanes(keys(n, 2, 0, 0), count)
    assert abs(correlation(base[:-1], base[1:])) < bound  # neighbouring rows
    assert abs(correlation(base[:, :-1], base[:, 1:])) < bound  # neighbouring elements
    for other in (
        keys(n, 2, 0, 1),  # the next epoch
        keys(n, 2, 1, 0),  # another seed
        keys(n, 3, 0, 0),  # another use
        keys(n, 2, 0, 0) ^ key_of(1),  # another dropout layer
        keys_of(key_of(4), keys(n, 2, 0, 0)),  # the negatives of the same rows
    ):
        assert abs(correlation(base, lanes(other, count))) < bound


def test_every_bit_of_a_word_is_a_fair_coin():
    drawn = words(keys(4_000, 8), 8).flatten()
    ones = torch.stack([(drawn >> bit & 1).double().mean() for bit in range(64)])
    assert (ones - 0.5).abs().max() < 4.5 * 0.5 / math.sqrt(len(drawn))


any_key = st.integers(-(1 << 63), (1 << 63) - 1)


@given(key=any_key, n=st.integers(0, 600))
def test_the_formula_is_a_permutation(key, n):
    order = FeistelOrder(key, n)[:]
    assert order.dtype == np.int64
    assert np.sort(order).tolist() == list(range(n))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 63, 64, 65, 255, 256, 257, 65_535, 65_537])
def test_sizes_about_powers_of_two(n):
    assert (np.sort(FeistelOrder(5, n)[:]) == np.arange(n)).all()


@pytest.mark.parametrize("kind", [FeistelOrder, order_of])
@given(key=any_key, n=st.integers(1, 300), first=st.integers(0, 310), length=st.integers(0, 40))
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


def test_seen_items_fill_a_pool_only_if_too_few_are_unseen():
    seen, given = torch.tensor([0, 1, 2, 5, 6, 7, 8, 9]), (key_of(1), key_of(2))
    assert set(unseen_pool(3, seen, 10, 2, given).tolist()) == {3, 4}
    assert set(unseen_pool(3, seen, 10, 4, given).tolist()) > {3, 4}
    assert set(unseen_pool(0, seen, 10, 3, given).tolist()) == {0, 3, 4}
