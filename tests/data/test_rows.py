"""Training rows against the table of specs/backbones.md, written out as loops."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_sequences import sequences_of, split_sequences, training

from recsys_lt.data import owners
from recsys_lt.data import rows as rows_module
from recsys_lt.data.rows import EveryPosition, OnePass, Prefixes
from recsys_lt.errors import UserError

some = settings(deadline=None, max_examples=80)


def inputs_and_targets(data, plan):
    """Every row as (user, its inputs, its targets)."""
    rows = plan.plan(data)
    spans = rows.at(np.arange(len(rows)))
    assert all((len(column), column.dtype) == (len(rows), np.int64) for column in spans)
    found = []
    for user, start, stop, n in zip(*(column.tolist() for column in spans), strict=True):
        targets = slice(stop + 1 - n, stop + 1)
        found.append((user, data.items[start:stop].tolist(), data.items[targets].tolist()))
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
    assert plan.plan(data).n_targets == len(read)


def recent_of_two_or_more(length):
    return PLANS["FMLP-Rec"][1](max(length, 2))


@pytest.mark.parametrize("plan", [EveryPosition, OnePass, Prefixes, PLANS["Caser"][1], recent_of_two_or_more])
@given(data=split_sequences(), length=st.integers(1, 14), entries=st.integers(1, 9), order=st.randoms())
@some
def test_rows_worked_out_are_those_of_the_table(plan, data, length, entries, order):
    listed = plan(length).plan(data)
    numbers = list(range(len(listed)))
    order.shuffle(numbers)
    asked = np.array(numbers, dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "TABULATED", -1)
        patch.setattr(rows_module, "PIECE", 48)  # three rows a piece
        patch.setattr(owners, "ENTRIES", entries)
        many = plan(length).plan(data)
        found = many.at(asked)
        assert many.n_targets == listed.n_targets
        assert "_table" not in vars(many)
    assert [column.tolist() for column in found] == [column.tolist() for column in listed.at(asked)]


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
    rows = plan.plan(sequences_of([[1], [], [2, 3]], [1, 0, 1]))
    assert len(rows) == 0
    assert len(plan.plan(sequences_of([], []))) == 0
