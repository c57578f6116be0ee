"""Sequences made of lists, random ones and prepared ones; and batches compared."""

import hashlib

import numpy as np
import torch
from hypothesis import strategies as st

from recsys_lt.data.arrays import offsets_of
from recsys_lt.data.dataset import Dataset
from recsys_lt.data.loader import Share, TrainBatches
from recsys_lt.data.sequences import Sequences
from recsys_lt.data.sources.synthetic import Synthetic
from recsys_lt.data.streams import key_of


def sequences_of(histories, train_end, valid_at=None, test_at=None, n_items=None) -> Sequences:
    """Users' events as lists of items, and where the split cuts each."""
    n_users = len(histories)
    flat = [item for history in histories for item in history]
    n_items = max(flat, default=0) + 1 if n_items is None else n_items
    return Sequences(
        name="small",
        items=np.array(flat, dtype=np.int32),
        offsets=offsets_of(np.array([len(history) for history in histories], dtype=np.int64)),
        train_end=np.array(train_end, dtype=np.int64),
        valid_at=np.array(valid_at if valid_at is not None else [-1] * n_users, dtype=np.int64),
        test_at=np.array(test_at if test_at is not None else [-1] * n_users, dtype=np.int64),
        n_items=n_items,
        user_ids=np.array([f"u{u}" for u in range(n_users)]),
        item_ids=np.array([f"i{i}" for i in range(n_items)]),
        split="by hand",
        fingerprint="",
    )


@st.composite
def split_sequences(draw, max_length=12, distinct=False) -> Sequences:
    """Users of 0.. events (0, 1 and 2 of training among them), with or without targets.

    With ``distinct`` every event is an item of its own, so that an item tells which event it was.
    """
    lengths = draw(st.lists(st.integers(0, max_length), min_size=1, max_size=8))
    if distinct:
        flat = iter(range(sum(lengths)))
        histories = [[next(flat) for _ in range(n)] for n in lengths]
        n_items = max(sum(lengths), 1)
    else:
        n_items = draw(st.integers(1, 9))
        histories = [draw(st.lists(st.integers(0, n_items - 1), min_size=n, max_size=n)) for n in lengths]
    train_end, valid_at, test_at = [], [], []
    for n in lengths:
        end = draw(st.integers(0, n))
        after = draw(st.sets(st.integers(end, n - 1), max_size=2)) if end < n else set()
        train_end.append(end)
        valid_at.append(min(after) if len(after) == 2 else -1)
        test_at.append(max(after) if after else -1)
    return sequences_of(histories, train_end, valid_at, test_at, n_items)


def history(data: Sequences, user: int) -> list[int]:
    """All events of a user."""
    return data.items[data.offsets[user] : data.offsets[user + 1]].tolist()


def training(data: Sequences, user: int) -> list[int]:
    """A user's training events."""
    return history(data, user)[: data.train_end[user]]


def prepared(folder) -> Sequences:
    """Made-up data as a run has them: mapped from prepared files."""
    source = Synthetic(n_users=300, n_items=40, mean_length=8)
    return Dataset(source, name="made", k_core=1, cache_dir=str(folder)).load(lambda _line: None)


def same_batch(one, other) -> None:
    """Assert that two batches are equal in all they hold."""
    for name in ("users", "items", "offsets", "targets", "streams"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == torch.int64
        assert torch.equal(a, b)
    assert (one.target_events is None) == (other.target_events is None)
    if one.target_events is not None:
        assert torch.equal(one.target_events, other.target_events)
    for name in ("lengths", "step_key", "global_targets", "step_targets"):
        assert getattr(one, name) == getattr(other, name)
    assert (one.seen is None) == (other.seen is None)
    if one.seen is not None:
        assert torch.equal(one.seen.items, other.seen.items)
        assert torch.equal(one.seen.offsets, other.seen.offsets)


def by_formula() -> Sequences:
    """Forty users of up to eleven events of thirty items, the same on every machine."""
    histories = [[key_of(user, n) % 30 for n in range(key_of(user) % 12)] for user in range(40)]
    return sequences_of(histories, [max(len(history) - 1, 0) for history in histories], n_items=30)


def digest(task, world=1, accumulate=1) -> str:
    """Hash of all whole numbers in the batches of two epochs: order, rows, targets and random streams."""
    data, known = by_formula(), hashlib.sha256()
    for rank in range(world):
        batches = TrainBatches(data, task, 7, 3, Share(rank, world), True, accumulate)
        for batch in (batches[epoch, step] for epoch in (0, 5) for step in range(len(batches))):
            streams = (batch.streams, batch.event_streams(), batch.target_streams(0))
            for column in (batch.users, batch.items, batch.offsets, batch.targets, *streams):
                known.update(column.numpy().astype("<i8").tobytes())
            known.update(batch.seen.items.numpy().astype("<i8").tobytes())
            known.update(batch.seen.offsets.numpy().astype("<i8").tobytes())
            known.update(repr((batch.lengths, batch.step_key, batch.global_targets, batch.step_targets)).encode())
    return known.hexdigest()[:16]
