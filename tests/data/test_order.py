"""Sorting by groups of users, and counting in pieces, against the plain forms on whole columns."""

from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lt.data import arrays, order
from recsys_lt.data.arrays import counts_of, place_type
from recsys_lt.data.filters import k_core
from recsys_lt.data.interactions import Interactions
from recsys_lt.data.order import in_time_order, renumbered, repeated
from recsys_lt.data.preparation import Preparation

some = settings(deadline=None, max_examples=60)
N_USERS, N_ITEMS = 9, 5
events = st.lists(st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.integers(0, 3)), max_size=60)
sizes = st.integers(1, 20)
limits = st.sampled_from([1, 2, 1 << 12])  # on the number of groups


@contextmanager
def in_pieces(size, most_groups=1 << 12):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "PIECE", size)
        patch.setattr(order, "PIECE", size)
        patch.setattr(order, "_MOST_GROUPS", most_groups)
        yield


def columns(rows):
    users, items, times = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return users.astype(np.int32), items.astype(np.int32), times


@given(rows=events, size=sizes, most=limits, with_times=st.booleans())
@some
def test_by_groups_is_the_plain_stable_sort(rows, size, most, with_times):
    users, _, times = columns(rows)
    with in_pieces(size, most):
        found = in_time_order(users, times if with_times else None, N_USERS)
    plain = np.lexsort((times, users)) if with_times else np.argsort(users, kind="stable")
    in_order = (plain == np.arange(len(rows))).all()
    assert (found is None) == in_order
    if found is not None:
        assert found.tolist() == plain.tolist()


@given(rows=events, size=sizes, most=limits, with_times=st.booleans())
@some
def test_repeated_is_what_pandas_says(rows, size, most, with_times):
    users, items, times = columns(rows)
    with in_pieces(size, most):
        found = repeated(users, items, times if with_times else None, N_USERS)
    table = {"user": users, "item": items} | ({"time": times} if with_times else {})
    assert found.tolist() == pd.DataFrame(table).duplicated().tolist()


@given(codes=st.lists(st.integers(0, 11), max_size=50), size=sizes)
@some
def test_numbers_in_order_of_first_appearance(codes, size):
    given_codes = np.array(codes, dtype=np.int32)
    with in_pieces(size):
        new, old = renumbered(given_codes, 12)
    plain_new, plain_old = pd.factorize(given_codes)
    assert new.dtype == np.int32
    assert (new.tolist(), old.tolist()) == (plain_new.tolist(), plain_old.tolist())


@given(codes=st.lists(st.integers(0, 11), max_size=50), size=sizes)
@some
def test_counts_are_numpy_s(codes, size):
    with in_pieces(size):
        assert counts_of(np.array(codes, dtype=np.int32), 12).tolist() == np.bincount(codes, minlength=12).tolist()


def test_places_take_the_smaller_type():
    assert place_type((1 << 31) - 1) is np.int32
    assert place_type(1 << 31) is np.int64


@given(rows=events, size=sizes, k=st.integers(1, 4), duplicates=st.sampled_from(["keep", "drop"]))
@some
def test_preparation_in_pieces_is_the_one_in_one(rows, size, k, duplicates):
    # Three users who are in any 4-core, so that something is left.
    sure = [(user, item, 5 + turn) for user in range(3) for turn in range(2) for item in range(3)]
    users, items, times = columns([*sure[::-1], *rows, *sure])
    ids = [np.array([str(n) for n in range(n_all)], dtype=np.object_) for n_all in (N_USERS, N_ITEMS)]
    table = Interactions(users, items, *ids, times)
    whole, notes = Preparation(k_core=k, duplicates=duplicates)(table, "x")
    core = k_core(users, items, k)
    with in_pieces(size):
        parts, noted = Preparation(k_core=k, duplicates=duplicates)(table, "x")
        assert (k_core(users, items, k) == core).all()
    assert noted == notes
    for name in ("items", "offsets", "train_end", "valid_at", "test_at", "user_ids", "item_ids"):
        assert getattr(parts, name).dtype == getattr(whole, name).dtype
        assert getattr(parts, name).tolist() == getattr(whole, name).tolist()
