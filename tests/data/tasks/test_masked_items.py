"""Masked items: what is masked, what the targets are, and how often."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_sequences import digest, sequences_of, split_sequences, training

from recsys_lt.data.tasks.masked_items import MaskedItems
from recsys_lt.errors import UserError

some = settings(deadline=None, max_examples=60)


def batch_of(task, data, stream=0):
    return task.batch(data, np.arange(task.n_examples(data)), stream)


@given(
    data=split_sequences(), length=st.integers(2, 14), last=st.sampled_from([0.0, 0.5, 1.0]), stream=st.integers(0, 9)
)
@example(data=sequences_of([[], [3], [3, 1], [1, 2, 3], [4, 5]], [0, 1, 2, 1, 0]), length=2, last=0.5, stream=0)
@some
def test_the_targets_put_back_give_the_last_training_items(data, length, last, stream):
    task = MaskedItems(length, last_only=last)
    batch = batch_of(task, data, stream)
    assert (batch.items[batch.target_events] == data.n_items).all()
    assert (batch.items == data.n_items).sum() == len(batch.targets)
    whole = batch.items.index_copy(0, batch.target_events, batch.targets).split(batch.lengths)
    expected = {user: training(data, user)[-length:] for user in range(data.n_users)}
    assert dict(zip(batch.users.tolist(), (part.tolist() for part in whole), strict=True)) == {
        user: items for user, items in expected.items() if len(training(data, user)) >= 2
    }
    assert set(batch.rows_of_targets().tolist()) == set(range(len(batch)))  # at least one of each row
    if last == 1:
        assert batch.target_events.tolist() == (batch.offsets[1:] - 1).tolist()


def test_masks_belong_to_the_example_and_the_epoch():
    data = sequences_of([list(range(10))] * 40, [10] * 40)
    task = MaskedItems(10)
    batch = batch_of(task, data)
    for numbers in ([7], [39, 7, 0]):
        part = task.batch(data, np.array(numbers), 0)
        for place, items in enumerate(part.items.split(part.lengths)):
            assert torch.equal(items, batch.items.split(batch.lengths)[numbers[place]])
    assert not torch.equal(batch_of(task, data, 1).items, batch.items)
    assert len({tuple(items.tolist()) for items in batch.items.split(batch.lengths)}) > 20
    assert len(task.batch(data, np.zeros(0, dtype=np.int64), 0).targets) == 0


def test_as_many_are_masked_as_the_probabilities_say():
    n, length = 4000, 20
    data = sequences_of([list(range(length))] * n, [length] * n)
    share = batch_of(MaskedItems(length, 0.3, last_only=0), data).targets.bincount() / n
    assert (share - 0.3).abs().max() < 4 * (0.3 * 0.7 / n) ** 0.5  # at every place alike
    counts = batch_of(MaskedItems(length, 0.5, last_only=0.25), data).rows_of_targets().bincount()
    assert (counts == 1).double().mean() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / n) ** 0.5)


@pytest.mark.parametrize(
    "settings", [{"probability": 0.0}, {"probability": 1.0}, {"last_only": -0.1}, {"last_only": 2}]
)
def test_probabilities_are_checked(settings):
    with pytest.raises(UserError, match="masked with probability"):
        MaskedItems(5, **settings)


def test_random_numbers_are_those_of_stored_runs():
    assert digest(MaskedItems(5)) == "3c3df7cfda3edb94"
    assert digest(MaskedItems(5, 0.4), world=2, accumulate=3) == "e02c70a344a68a60"
