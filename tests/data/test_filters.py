from collections import Counter

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from recsys_lt.data.preparation import k_core


def brute_force(pairs: list[tuple[int, int]], k: int) -> list[bool]:
    keep = [True] * len(pairs)
    while True:
        users = Counter(user for (user, _), kept in zip(pairs, keep, strict=True) if kept)
        items = Counter(item for (_, item), kept in zip(pairs, keep, strict=True) if kept)
        now = [kept and users[user] >= k and items[item] >= k for (user, item), kept in zip(pairs, keep, strict=True)]
        if now == keep:
            return keep
        keep = now


def kept(pairs: list[tuple[int, int]], k: int) -> list[bool]:
    users, items = np.array(pairs, dtype=np.int32).reshape(-1, 2).T
    table = pd.DataFrame({"user": users, "item": items})
    return table.index.isin(k_core(table, k).index).tolist()


def test_removal_goes_on_until_everyone_has_k():
    # Item 2 goes first, then user 1 (one event left), then nothing more.
    pairs = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert kept(pairs, 2) == [True, True, False, False, True, True]


def test_one_or_less_keeps_all():
    assert kept([(0, 0), (1, 1)], 1) == kept([(0, 0), (1, 1)], 0) == [True, True]


def test_everything_may_go():
    assert kept([(0, 0), (1, 1)], 2) == [False, False]


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=60),
    st.integers(0, 5),
)
def test_equals_the_plain_loop(pairs, k):
    assert kept(pairs, k) == (brute_force(pairs, k) if k > 1 else [True] * len(pairs))
