"""What is mapped from files: let go of in time, and sent to other processes by name."""

import mmap
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from small_sequences import prepared, same_batch

from recsys_lt.data import mapped
from recsys_lt.data.loader import RankBatches, Share, TrainBatches, UsersWithTarget, train_loader
from recsys_lt.data.mapped import FileOf, Residency, file_of
from recsys_lt.data.rows import EveryPosition, Prefixes
from recsys_lt.data.sequences import Sequences

FIELDS = ("items", "offsets", "train_end", "valid_at", "test_at", "user_ids", "item_ids", "item_titles", "counted")
NUMBERS = 1 << 19  # 4 MiB

on_linux = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(mmap, "MADV_DONTNEED"),
    reason="resident pages are read from /proc/self/smaps",
)


@pytest.fixture
def column(tmp_path):
    file = tmp_path / "column.npy"
    np.save(file, np.arange(NUMBERS))
    return np.load(file, mmap_mode="r")


def resident(array) -> int:
    """Bytes of the array's file in this process's memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0]:
            inside = line.endswith(str(array.filename))
        elif inside and words[0] == "Rss:":
            total += int(words[1]) * 1024
    return total


@on_linux
def test_pages_over_the_budget_are_let_go_and_read_again(column):
    residency = Residency([column, np.arange(3)], budget=1 << 20)
    total = column.sum()
    assert resident(column) >= column.nbytes
    residency.touched(3)
    assert resident(column) >= column.nbytes  # what was read since does not reach the budget
    residency.touched(NUMBERS)
    assert resident(column) < column.nbytes // 4
    assert column.sum() == total == NUMBERS * (NUMBERS - 1) // 2


@on_linux
def test_small_data_stay(column):
    residency = Residency([column], budget=column.nbytes * 2)
    column.sum()
    residency.touched(NUMBERS * 100)
    assert resident(column) >= column.nbytes


def test_residency_stays_in_its_process(column):
    with pytest.raises(TypeError, match="its own maps"):
        pickle.dumps(Residency([column]))


def test_only_a_whole_map_is_named_by_its_file(column):
    assert file_of(column) == FileOf(str(column.filename))
    assert (file_of(column).opened() == column).all()
    for other in (column[1:], column[::2], np.asarray(column[:3]), column + 1, np.arange(3), "word", None):
        assert file_of(other) is other


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
    batches = TrainBatches(data, EveryPosition(5).plan(data), 16, 3, Share(), with_seen=True)
    before = batches[1, 0]  # what it works out once is not sent
    sent = pickle.dumps(batches)
    assert len(sent) - data.counted.nbytes < 4_000
    same_batch(pickle.loads(sent)[1, 0], before)


def test_spawned_workers_map_the_files(tmp_path):
    data = prepared(tmp_path)
    batches = TrainBatches(data, Prefixes(5).plan(data), 400, 3, Share(), with_seen=True)
    alone, shared = (list(train_loader(batches, workers, epoch=1)) for workers in (0, 2))
    assert len(alone) == len(shared) == len(batches) > 2
    for one, other in zip(alone, shared, strict=True):
        same_batch(one, other)


def test_batches_of_maps_let_go_every_time_are_the_same(tmp_path, monkeypatch):
    data = prepared(tmp_path)
    dropped = []
    monkeypatch.setattr(mapped, "_AROUND", 1 << 30)

    def batches():
        train = TrainBatches(data, Prefixes(5).plan(data), 100, 3, Share(), with_seen=True)
        rank = RankBatches(data, UsersWithTarget(data, "test"), "test", 5, 30, with_seen=True)
        dropped.extend([train._residency._watched, rank._residency._watched])
        return [train[0, step] for step in range(4)] + [rank[step] for step in range(4)]

    kept = batches()
    monkeypatch.setattr(mapped, "BUDGET", 0)
    for one, other in zip(batches(), kept, strict=True):
        same_batch(one, other)
    assert dropped == [False, False, True, True]
