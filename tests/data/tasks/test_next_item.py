"""Examples against their table, written out as loops: row, inputs and targets of each published backbone."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_sequences import digest, sequences_of, split_sequences, training

from recsys_lt.data.tasks.next_item import EveryPosition, OnePass, Prefixes
from recsys_lt.errors import UserError

some = settings(deadline=None, max_examples=80)


def inputs_and_targets(data, task):
    """Every example as (user, its inputs, its targets); a target is the item after its event."""
    n = task.n_examples(data)
    batch = task.batch(data, np.arange(n), 0)
    assert len(batch) == n
    rows = batch.rows_of_targets()
    assert task.n_targets(data, np.arange(n), 0) == len(batch.targets)
    events = batch.offsets[1:] - 1 if batch.target_events is None else batch.target_events
    inputs = [part.tolist() for part in batch.items.split(batch.lengths)]
    found = [(user, inputs[row], []) for row, user in enumerate(batch.users.tolist())]
    for row, event, target in zip(rows.tolist(), events.tolist(), batch.targets.tolist(), strict=True):
        place = event - int(batch.offsets[row])
        assert 0 <= place < len(inputs[row])
        if place + 1 < len(inputs[row]):
            assert inputs[row][place + 1] == target
        found[row][2].append(target)
    assert all(targets for _, _, targets in found)
    return found


# The table, for one user's training sequence t (a row of length k: inputs t_1..t_k-1, target t_k).


def sasrec(t, length):
    """One row a user, last ``length`` inputs, all positions supervised."""
    return [(t[:-1][-length:], t[1:][-length:])] if len(t) >= 2 else []


def gru4rec(t, length):
    """Every prefix of length 2..T, last ``length`` of the input."""
    return [(t[: k - 1][-length:], [t[k - 1]]) for k in range(2, len(t) + 1)]


def caser(t, length, shortest=5):
    """Prefixes of length 5..T, the whole sequence if T < 5."""
    if len(t) < 2:
        return []
    return [(t[: k - 1][-length:], [t[k - 1]]) for k in range(min(shortest, len(t)), len(t) + 1)]


def fmlp_rec(t, length):
    """Every prefix of length 2.. of the last ``length`` items."""
    recent = t[-length:]
    return [(recent[: k - 1], [recent[k - 1]]) for k in range(2, len(recent) + 1)]


PLANS = {
    "SASRec": (sasrec, EveryPosition),
    "GRU4Rec": (gru4rec, Prefixes),
    "Caser": (caser, lambda length: Prefixes(length, min_length=5)),
    "FMLP-Rec": (fmlp_rec, lambda length: Prefixes(length, recent=True)),
}


def by_table(data, rows_of, length):
    return [
        (user, inputs, targets)
        for user in range(data.n_users)
        for inputs, targets in rows_of(training(data, user), length)
    ]


@pytest.mark.parametrize("name", PLANS)
@given(data=split_sequences(), length=st.integers(2, 14))
@example(data=sequences_of([[], [3], [3, 1], [1, 2, 3], [4, 5]], [0, 1, 2, 1, 0]), length=2)
@some
def test_rows_are_the_table_s(name, data, length):
    rows_of, plan = PLANS[name]
    assert inputs_and_targets(data, plan(length)) == by_table(data, rows_of, length)


@given(data=split_sequences(), length=st.integers(1, 14))
@some
def test_one_pass_holds_each_prefix_once(data, length):
    """Every (inputs, target) of the prefixes, and no other, is read off some row's first so many events."""
    plan = OnePass(length)
    read = [
        (user, inputs[: len(inputs) - len(targets) + 1 + n], [target])
        for user, inputs, targets in inputs_and_targets(data, plan)
        for n, target in enumerate(targets)
    ]
    assert sorted(read) == sorted(inputs_and_targets(data, Prefixes(length)))


@pytest.mark.parametrize("task", [EveryPosition(3), OnePass(3), Prefixes(4), Prefixes(3, recent=True)])
@given(data=split_sequences(), order=st.randoms())
@some
def test_an_example_does_not_depend_on_its_batch(task, data, order):
    numbers = list(range(task.n_examples(data)))
    order.shuffle(numbers)
    whole = task.batch(data, np.arange(len(numbers)), 7)
    for number in numbers[:3]:
        alone = task.batch(data, np.array([number]), 7)
        start, end = whole.offsets[number], whole.offsets[number + 1]
        assert torch.equal(alone.items, whole.items[start:end])
        assert torch.equal(alone.targets, whole.targets[whole.rows_of_targets() == number])
        assert torch.equal(alone.streams, whole.streams[[number]])
        if whole.target_events is not None:
            inside = (whole.target_events >= start) & (whole.target_events < end)
            assert torch.equal(alone.target_events + start, whole.target_events[inside])


@given(data=split_sequences())
@some
def test_one_input_is_enough_where_rows_are_not_cut_to_recent_items(data):
    for name in ("SASRec", "GRU4Rec", "Caser"):
        rows_of, plan = PLANS[name]
        assert inputs_and_targets(data, plan(1)) == by_table(data, rows_of, 1)


@pytest.mark.parametrize("name", PLANS)
@given(data=split_sequences(distinct=True), length=st.integers(2, 14))
@some
def test_training_never_sees_a_validation_or_test_item(name, data, length):
    events = [item for user in range(data.n_users) for item in training(data, user)]
    for user, inputs, targets in inputs_and_targets(data, PLANS[name][1](length)):
        assert {*inputs, *targets} <= set(training(data, user))
        assert inputs
        assert max(inputs) < targets[-1]  # items count up: nothing is read from its own future
    if name == "GRU4Rec":  # every event but a user's first is a target once
        targets = [row[2][0] for row in inputs_and_targets(data, Prefixes(length))]
        firsts = {training(data, user)[0] for user in range(data.n_users) if training(data, user)}
        assert sorted(targets) == sorted(set(events) - firsts)


A, B, C, D, E, F, G = range(7)


@pytest.fixture
def by_hand():
    """Training events: none, one, two, three and six; a last event of each is not for training."""
    histories = [[A], [A, B], [B, A, C], [C, B, A, D], [A, B, C, D, E, F, G]]
    return sequences_of(histories, [0, 1, 2, 3, 6], test_at=[0, 1, 2, 3, 6])


def test_every_position(by_hand):
    assert inputs_and_targets(by_hand, EveryPosition(3)) == [
        (2, [B], [A]),
        (3, [C, B], [B, A]),
        (4, [C, D, E], [D, E, F]),
    ]


def test_prefixes(by_hand):
    assert inputs_and_targets(by_hand, Prefixes(3)) == [
        (2, [B], [A]),
        (3, [C], [B]),
        (3, [C, B], [A]),
        (4, [A], [B]),
        (4, [A, B], [C]),
        (4, [A, B, C], [D]),
        (4, [B, C, D], [E]),
        (4, [C, D, E], [F]),
    ]


def test_prefixes_of_at_least_five(by_hand):
    assert inputs_and_targets(by_hand, Prefixes(5, min_length=5)) == [
        (2, [B], [A]),
        (3, [C, B], [A]),
        (4, [A, B, C, D], [E]),
        (4, [A, B, C, D, E], [F]),
    ]


def test_prefixes_of_recent_items(by_hand):
    assert inputs_and_targets(by_hand, Prefixes(4, recent=True)) == [
        (2, [B], [A]),
        (3, [C], [B]),
        (3, [C, B], [A]),
        (4, [C], [D]),
        (4, [C, D], [E]),
        (4, [C, D, E], [F]),
    ]


def test_fifty_is_fifty():
    """The 51st input from the end is the first left out; FMLP-Rec's window of 50 holds its targets."""
    data = sequences_of([list(range(60))], [60])
    _, inputs, targets = inputs_and_targets(data, EveryPosition(50))[0]
    assert (inputs, targets) == (list(range(9, 59)), list(range(10, 60)))
    assert inputs_and_targets(data, Prefixes(50))[-1] == (0, list(range(9, 59)), [59])
    recent = inputs_and_targets(data, Prefixes(50, recent=True))
    assert len(recent) == 49
    assert recent[0] == (0, [10], [11])
    assert recent[-1] == (0, list(range(10, 59)), [59])


def test_one_recent_item_leaves_nothing_to_read():
    with pytest.raises(UserError, match="none is left to read"):
        Prefixes(1, recent=True)


@pytest.mark.parametrize("plan", [EveryPosition(5), OnePass(5), Prefixes(5), Prefixes(5, recent=True)])
def test_no_one_to_learn_from(plan):
    assert plan.n_examples(sequences_of([[1], [], [2, 3]], [1, 0, 1])) == 0
    assert plan.n_examples(sequences_of([], [])) == 0


@pytest.mark.parametrize(
    ("task", "alone", "two_ranks_three_batches_a_step"),
    [
        (EveryPosition(5), "5625068cdef58dc6", "fd08a1de9cbd67e6"),
        (Prefixes(4), "2b4a46c5cf543370", "38628e7147b326db"),
        (Prefixes(5, min_length=5), "1373464642c44674", "aae443e3dc7e4323"),
        (Prefixes(5, recent=True), "e30785cbbbef2bbf", "763ecc3abf9f6558"),
        (OnePass(3), "0779db96744f1a73", "8881c69359ae059e"),
    ],
)
def test_random_numbers_are_those_of_stored_runs(task, alone, two_ranks_three_batches_a_step):
    """A change here changes the results of every run: order, dropout, negatives."""
    assert digest(task) == alone
    assert digest(task, world=2, accumulate=3) == two_ranks_three_batches_a_step
