import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lt.data import owners
from recsys_lt.data.owners import Owners

some_counts = st.lists(st.integers(0, 4), min_size=1, max_size=40)


def plain(counts):
    """Owner and place of every thing, as a list."""
    owner = np.repeat(np.arange(len(counts)), counts)
    place = [place for count in counts for place in range(count)]
    return owner.tolist(), place


@pytest.mark.parametrize("entries", [None, 1, 3, 7])
@given(counts=some_counts, order=st.randoms())
def test_each_thing_has_its_owner(entries, counts, order):
    of_users = np.array(counts, dtype=np.int64)
    found = Owners(lambda users: of_users[users], len(counts), entries)
    owner, place = plain(counts)
    assert len(found) == len(owner)
    numbers = list(range(len(owner)))
    order.shuffle(numbers)
    user, which = found.of(np.array(numbers, dtype=np.int64))
    assert user.dtype == which.dtype == np.int64
    assert user.tolist() == [owner[number] for number in numbers]
    assert which.tolist() == [place[number] for number in numbers]


@given(counts=st.lists(st.integers(0, 4), min_size=18, max_size=40))
def test_counted_in_pieces(counts):
    of_users = np.array(counts, dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owners, "PIECE", 64)  # four users a piece, but strides are of three to six
        found = Owners(lambda users: of_users[users], len(counts), 6)
    numbers = np.arange(len(found))
    assert [column.tolist() for column in found.of(numbers)] == list(plain(counts))


def test_totals_do_not_grow_with_the_users(monkeypatch):
    monkeypatch.setattr(owners, "ENTRIES", 16)
    asked = []

    def counts(users):
        asked.append(len(users))
        return np.ones(len(users), dtype=np.int64)

    found = Owners(counts, 1_000)
    assert len(found._before) <= 2 * 16 + 1
    assert len(found) == 1_000
    asked.clear()
    assert found.of(np.array([999, 0]))[0].tolist() == [999, 0]
    assert sum(asked) <= 2 * (1_000 // 16)


def test_nobody():
    assert len(Owners(lambda users: users, 0)) == 0
    assert len(Owners(lambda users: np.zeros(len(users), dtype=np.int64), 5, 2)) == 0
