"""Histories of users: fingerprints, popularity, and arrays mapped from files."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lt.data import sequences as module
from recsys_lt.data.arrays import pieces
from recsys_lt.data.loader import RankBatches, Share, TrainBatches, train_loader
from recsys_lt.data.sequences import Sequences, is_whole_map
from recsys_lt.data.tasks.next_item import EveryPosition, Prefixes
from recsys_lt.errors import UserError
from tests.data.small_sequences import history, prepared, same_batch, sequences_of, split_sequences

DATA = sequences_of([[0, 1, 2], [3, 0]], [2, 2], [-1, -1], [2, -1])


def test_the_item_fingerprint_is_of_the_ids_in_order():
    same = replace(DATA, items=DATA.items[::-1], user_ids=DATA.user_ids[::-1], fingerprint="other")
    assert same.item_fingerprint == DATA.item_fingerprint
    wider = replace(DATA, item_ids=DATA.item_ids.astype("<U99"))
    assert wider.item_fingerprint == DATA.item_fingerprint
    for ids in (DATA.item_ids[::-1], np.array(["i0", "i1", "i2", "x"]), np.array(["i", "0i1", "i2", "i3"])):
        assert replace(DATA, item_ids=ids).item_fingerprint != DATA.item_fingerprint


def test_test_targets_that_the_user_had_before_are_counted():
    users = [[0, 1, 0], [0, 1, 2], [3, 3, 1], [2, 0, 2, 2], [1, 1], [1]]
    data = sequences_of(users, [1] * 6, [-1] * 6, [2, 2, 1, 2, -1, -1])
    assert data.repeated_targets() == 3  # of the first, third and fourth user
    assert sequences_of(users, [1] * 6, [-1] * 6, [1, 1, 2, 1, -1, -1]).repeated_targets() == 0


def test_histories_of_other_users_over_the_same_items():
    made, unknown = DATA.of_histories({"new": ["i3", "gone", "i1", "i3"], "u0": ["i2"]})
    assert unknown == 1
    assert [history(made, user) for user in (0, 1)] == [[3, 1, 3], [2]]
    assert made.items.dtype == DATA.items.dtype
    assert made.user_ids.tolist() == ["new", "u0"]
    assert made.item_fingerprint == DATA.item_fingerprint
    assert made.fingerprint not in (DATA.fingerprint, DATA.of_histories({"new": ["i3"]})[0].fingerprint)
    assert made.popularity.tolist() == DATA.popularity.tolist() == [2, 1, 0, 1]
    batch = RankBatches(made, np.arange(2), None, 2, 2, with_seen=True)[0]
    assert batch.items.tolist() == [1, 3, 2]
    assert batch.seen.items.tolist() == [1, 3, 2]


@pytest.mark.parametrize("histories", [{}, {"a": ["i1"], "b": ["gone"]}, {"b": []}])
def test_a_history_without_a_known_item_is_refused(histories):
    with pytest.raises(UserError, match=r"histories: (no event of user b is of a known item|there are no histories)"):
        DATA.of_histories(histories)


@given(split_sequences(), st.data())
def test_popularity_within_counts_the_last_training_events(data, draw):
    times = []
    for length in np.diff(data.offsets):
        times += sorted(draw.draw(st.lists(st.integers(0, 20), min_size=int(length), max_size=int(length))))
    data = replace(data, times=np.array(times, dtype=np.float64))
    window = draw.draw(st.integers(1, 25))
    training = [
        (data.items[first + place], times[first + place])
        for first, end in zip(data.offsets[:-1], data.train_end, strict=True)
        for place in range(end)
    ]
    latest = max((time for _, time in training), default=0)
    plain = [0] * data.n_items
    for item, time in training:
        plain[item] += time > latest - window
    assert data.popularity_within(window).tolist() == plain
    assert data.popularity_within(1000).tolist() == data.popularity.tolist()


def test_targets_are_not_counted_and_do_not_move_the_window():
    data = sequences_of([[0, 1, 2, 3], [0, 2, 1, 3]], [2, 2], [2, 2], [3, 3])
    data = replace(data, times=np.array([0, 50, 99, 100, 10, 60, 99, 100], dtype=np.float64))
    assert data.popularity_within(10.0).tolist() == [0, 0, 1, 0]  # 60 is the latest, and 50 is too old by then
    assert data.popularity_within(10.5).tolist() == [0, 1, 1, 0]


def test_in_pieces_of_users(monkeypatch):
    data = sequences_of([[0, 1, 2]] * 7, [1, 2, 3, 0, 3, 2, 1])
    data = replace(data, times=np.arange(21, dtype=np.float64))
    whole = data.popularity.tolist(), data.popularity_within(9).tolist()
    monkeypatch.setattr(module, "pieces", lambda n, _size: pieces(n, 2))
    again = replace(data, counted=None)
    assert (again.popularity.tolist(), again.popularity_within(9).tolist()) == whole


def test_without_times():
    with pytest.raises(ValueError, match="no times"):
        sequences_of([[0, 1]], [2]).popularity_within(1)


FIELDS = ("items", "offsets", "train_end", "valid_at", "test_at", "user_ids", "item_ids", "counted")
NUMBERS = 1 << 19


@pytest.fixture
def column(tmp_path):
    file = tmp_path / "column.npy"
    np.save(file, np.arange(NUMBERS))
    return np.load(file, mmap_mode="r")


def test_only_a_whole_map_is_named_by_its_file(column):
    assert is_whole_map(column)
    for other in (column[1:], column[::2], np.asarray(column[:3]), column + 1, np.arange(3), "word", None):
        assert not is_whole_map(other)


def test_sequences_are_sent_by_name(tmp_path):
    data = prepared(tmp_path)
    sent = pickle.dumps(data)
    assert len(sent) - data.counted.nbytes < 2_500 < data.items.nbytes
    again = pickle.loads(sent)
    assert isinstance(again, Sequences)
    for name in FIELDS:
        one, other = getattr(data, name), getattr(again, name)
        assert (one.dtype, type(one)) == (other.dtype, type(other))
        assert (one == other).all()
    assert all(isinstance(getattr(again, name), np.memmap) for name in FIELDS[:-1])
    for name in ("name", "n_items", "split", "fingerprint"):
        assert getattr(data, name) == getattr(again, name)
    assert (data.popularity == again.popularity).all()


def test_batches_are_sent_small_and_come_out_alike(tmp_path):
    data = prepared(tmp_path)
    batches = TrainBatches(data, EveryPosition(5), 16, 3, Share(), with_seen=True)
    before = batches[1, 0]  # what it works out once is not sent
    sent = pickle.dumps(batches)
    assert len(sent) - data.counted.nbytes < 4_000
    same_batch(pickle.loads(sent)[1, 0], before)


def test_spawned_workers_map_the_files(tmp_path):
    data = prepared(tmp_path)
    batches = TrainBatches(data, Prefixes(5), 400, 3, Share(), with_seen=True)
    alone, shared = (list(train_loader(batches, workers, epoch=1)) for workers in (0, 2))
    assert len(alone) == len(shared) == len(batches) > 2
    for one, other in zip(alone, shared, strict=True):
        same_batch(one, other)
