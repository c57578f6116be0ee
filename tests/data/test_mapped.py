"""Arrays mapped from files, sent to other processes by name."""

import pickle

import numpy as np
import pytest
from small_sequences import prepared, same_batch

from recsys_lt.data.loader import Share, TrainBatches, train_loader
from recsys_lt.data.sequences import Sequences, is_whole_map
from recsys_lt.data.tasks.next_item import EveryPosition, Prefixes

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
