"""How often items occur in training, of all time and of late, against plain loops."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lt.data import sequences as module
from recsys_lt.data.arrays import pieces
from tests.data.small_sequences import sequences_of, split_sequences


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
