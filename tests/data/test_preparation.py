from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lt.data.interactions import Interactions
from recsys_lt.data.preparation import Preparation, k_core
from recsys_lt.errors import UserError


def texts(values) -> np.ndarray:
    return np.array(values, dtype=np.object_)


def events_of(rows, **more) -> Interactions:
    """Rows of (user, item[, time]) with one-letter ids."""
    columns = list(zip(*rows, strict=True))
    user_ids, item_ids = sorted(set(columns[0])), sorted(set(columns[1]))
    return Interactions(
        np.array([user_ids.index(user) for user in columns[0]], dtype=np.int32),
        np.array([item_ids.index(item) for item in columns[1]], dtype=np.int32),
        texts(user_ids),
        texts(item_ids),
        np.array(columns[2]) if len(columns) > 2 else None,
        **more,
    )


def histories(sequences) -> dict[str, str]:
    return {
        str(user): "".join(sequences.item_ids[sequences.items[start:stop]])
        for user, start, stop in zip(sequences.user_ids, sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    }


def test_equal_times_keep_the_order_of_the_source():
    rows = [("u", "d", 2), ("u", "c", 1), ("u", "a", 2), ("v", "b", 0), ("u", "b", 1), ("u", "e", 2)]
    sequences, _ = Preparation(k_core=1)(events_of(rows), "x")
    assert histories(sequences) == {"u": "cbdae", "v": "b"}


def test_times_are_kept_in_seconds_and_in_order():
    rows = [("u", "d", 2500), ("v", "b", 500), ("u", "c", 1000), ("u", "a", 4000), ("v", "d", 0)]
    events = events_of(rows, unit=1e-3)
    sequences, _ = Preparation(k_core=1)(events, "x")
    assert histories(sequences) == {"u": "cda", "v": "db"}
    assert sequences.times.tolist() == [1.0, 2.5, 4.0, 0.0, 0.5]
    assert Preparation(k_core=1)(events_of([row[:2] for row in rows]), "x")[0].times is None


@given(
    st.lists(
        st.tuples(st.sampled_from("uvw"), st.sampled_from("abcdef"), st.integers(0, 4)),
        min_size=1,
        max_size=60,
    )
)
def test_equals_a_plain_stable_sort(rows):
    rows += [("z", "a", 0), ("z", "b", 1), ("z", "c", 2)]
    for timed in (rows, [row[:2] for row in rows]):
        sequences, _ = Preparation(k_core=1)(events_of(timed), "x")
        plain: dict[str, str] = {}
        for user, item, *_ in sorted(timed, key=lambda row: row[2:]):
            plain[user] = plain.get(user, "") + item
        assert histories(sequences) == plain


def test_ids_are_dense_in_order_of_first_appearance_after_filtering():
    rows = [("a", "z"), ("d", "q"), ("b", "y"), ("b", "x"), ("d", "x"), ("d", "y"), ("b", "x"), ("d", "x")]
    sequences, notes = Preparation(k_core=2)(events_of(rows), "x")
    assert sequences.user_ids.tolist() == ["b", "d"]
    assert sequences.item_ids.tolist() == ["y", "x"]
    assert histories(sequences) == {"d": "xyx", "b": "yxx"}
    assert notes == ["dropped 1 user and 2 items with fewer than 2 interactions"]
    assert sequences.items.dtype == np.int32
    assert sequences.n_items == 2


def test_a_catalogue_may_hold_items_without_events():
    events = Interactions(
        np.zeros(3, dtype=np.int32), np.array([3, 1, 3], dtype=np.int32), texts(["u"]), texts(list("abcd"))
    )
    kept, _ = Preparation(k_core=1)(events, "x")
    assert kept.item_ids.tolist() == ["d", "b", "a", "c"]


def test_nothing_left():
    with pytest.raises(UserError, match=r"none of 1 users, 3 items and 3 interactions.*dataset.k_core=1"):
        Preparation(k_core=5)(events_of([("u", "a"), ("u", "b"), ("u", "c")]), "x")


def test_nobody_has_a_target():
    with pytest.raises(UserError, match=r"no user has a validation target.*longest sequence has 2 events"):
        Preparation(k_core=1)(events_of([("u", "a"), ("u", "b"), ("v", "b")]), "x")


def test_temporal_with_all_times_equal_has_no_target():
    with pytest.raises(UserError, match=r"no user has a validation target"):
        Preparation(k_core=1, split="temporal")(events_of([("u", "a", 1), ("u", "b", 1)]), "x")


def test_one_item():
    with pytest.raises(UserError, match=r"one item, so there is nothing to rank"):
        Preparation(k_core=1)(events_of([("u", "a")] * 3), "x")


@pytest.mark.parametrize("k", ["five", 2.5, True])
def test_bad_k(k):
    with pytest.raises(UserError, match=r"dataset.k_core"):
        Preparation(k_core=k)


def test_drop_duplicates_keeps_the_first():
    rows = [("u", "a", 1), ("u", "b", 1), ("u", "a", 1), ("u", "a", 2), ("v", "a", 1)]
    sequences, notes = Preparation(k_core=1, duplicates="drop")(events_of(rows), "x")
    assert histories(sequences) == {"u": "aba", "v": "a"}
    assert notes == ["dropped 1 exact duplicates"]


@given(
    st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abc"), st.integers(0, 2)), max_size=40),
    st.booleans(),
)
def test_dropping_duplicates_is_a_set(rows, with_times):
    rows = [row if with_times else row[:2] for row in [("z", "a", 0), ("z", "b", 1), ("z", "c", 2), *rows]]
    sequences, _ = Preparation(k_core=1, duplicates="drop")(events_of(rows), "x")
    assert histories(sequences) == histories(Preparation(k_core=1)(events_of(list(dict.fromkeys(rows))), "x")[0])


def test_a_sequence_has_visits_and_not_duplicates():
    events = events_of([("u", "a"), ("u", "b"), ("u", "a")], repeats_are_visits=True)
    for word in ("keep", "drop", "error"):
        sequences, _ = Preparation(k_core=1, duplicates=word)(events, "x")
        assert histories(sequences) == {"u": "aba"}


def test_unknown_duplicates_word():
    with pytest.raises(UserError, match=r"Choose one of keep, drop, error"):
        Preparation(duplicates="merge")


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
