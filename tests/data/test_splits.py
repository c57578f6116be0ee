import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lt.data.arrays import offsets_of
from recsys_lt.data.interactions import Mark
from recsys_lt.data.splits import AsGiven, ColdItems, LeaveOneOut, Ordered, Temporal, split_named
from recsys_lt.errors import UserError


def ordered(lengths, times=None, marks=None, items=None) -> Ordered:
    items = np.zeros(sum(lengths), dtype=np.int32) if items is None else np.array(items, dtype=np.int32)
    return Ordered(
        items,
        int(items.max()) + 1,
        offsets_of(np.array(lengths, dtype=np.int64)),
        None if times is None else np.array(times, dtype=np.int64),
        None if marks is None else np.array(marks, dtype=np.int8),
        np.array([f"u{user}" for user in range(len(lengths))]),
    )


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_leave_one_out(lengths):
    cuts = LeaveOneOut().cut(ordered(lengths))
    for n, train_end, valid_at, test_at in zip(lengths, cuts.train_end, cuts.valid_at, cuts.test_at, strict=True):
        assert (train_end, valid_at, test_at) == ((n - 2, n - 2, n - 1) if n >= 3 else (n, -1, -1))


def test_temporal_by_hand():
    # Of the 11 times 0..10 the quantiles .5 and .8 are 5 and 8.
    cuts = Temporal((0.5, 0.8)).cut(ordered([4, 4, 2, 1], [0, 4, 5, 8, 1, 2, 3, 9, 6, 7, 10]))
    assert cuts.train_end.tolist() == [2, 3, 0, 0]
    assert cuts.valid_at.tolist() == [2, -1, -1, -1]  # user 1 skips the period, user 2 has no event before
    assert cuts.test_at.tolist() == [3, 3, -1, -1]  # user 3 has no event before


@given(
    st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=10), min_size=1, max_size=20),
    st.sampled_from([(0.8, 0.9), (0.3, 0.6), (0.1, 0.99)]),
)
def test_temporal_leaks_nothing(histories, quantiles):
    histories = [sorted(history) for history in histories]
    times = [time for history in histories for time in history]
    cuts = Temporal(quantiles).cut(ordered([len(history) for history in histories], times))
    ranked = sorted(times)
    first, second = (ranked[min(int(np.ceil(q * (len(times) - 1))), len(times) - 1)] for q in quantiles)
    for user, history in enumerate(histories):
        train_end, valid_at, test_at = cuts.train_end[user], cuts.valid_at[user], cuts.test_at[user]
        assert train_end == sum(time < first for time in history)
        middle = [place for place, time in enumerate(history) if first <= time < second]
        late = [place for place, time in enumerate(history) if time >= second]
        assert valid_at == (middle[0] if middle and middle[0] > 0 else -1)
        assert test_at == (late[0] if late and late[0] > 0 else -1)


def test_temporal_needs_times():
    with pytest.raises(UserError, match=r"needs the time of each event.*dataset.split=leave_one_out"):
        Temporal().cut(ordered([3]))


@given(
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=10), min_size=1, max_size=20),
    st.sampled_from([0.1, 0.3, 0.9]),
)
def test_cold_items_have_no_training_event(histories, share):
    histories = [[*history] for history in histories] + [[*range(31)]]
    cuts = ColdItems(share).cut(ordered([*map(len, histories)], items=[item for one in histories for item in one]))
    every = range(len(histories))
    trained = {item for user in every for item in histories[user][: cuts.train_end[user]]}
    targets = [{histories[user][at[user]] for user in every if at[user] >= 0} for at in (cuts.valid_at, cuts.test_at)]
    assert not trained & (targets[0] | targets[1])
    assert not targets[0] & targets[1]
    for user in every:
        for at, own in ((cuts.valid_at[user], targets[0]), (cuts.test_at[user], targets[1])):
            if at >= 0:
                assert at > 0
                assert not own & set(histories[user][:at])  # the first such event
                assert at >= cuts.train_end[user]


@pytest.mark.parametrize("share", [0, 1, -0.5])
def test_bad_shares_of_cold_items(share):
    with pytest.raises(UserError, match=r"dataset\.cold_share: it is"):
        split_named("cold_items", (0.8, 0.9), share)


def test_as_given():
    marks = [Mark.TRAIN, Mark.TRAIN, Mark.HISTORY, Mark.VALID, Mark.HISTORY, Mark.HISTORY, Mark.TEST]
    cuts = AsGiven().cut(ordered([2, 2, 3], marks=marks))
    assert cuts.train_end.tolist() == [2, 0, 0]
    assert cuts.valid_at.tolist() == [-1, 1, -1]
    assert cuts.test_at.tolist() == [-1, -1, 2]


def test_the_first_event_of_a_given_part_is_the_target():
    marks = [Mark.TRAIN, Mark.VALID, Mark.VALID, Mark.TEST, Mark.TEST]
    cuts = AsGiven().cut(ordered([5, 1], marks=[*marks, Mark.TEST]))
    assert (cuts.train_end.tolist(), cuts.valid_at.tolist(), cuts.test_at.tolist()) == ([1, 0], [1, -1], [3, 0])


def test_a_given_split_goes_forward_in_time():
    marks = [Mark.TEST, Mark.TRAIN, Mark.TEST, Mark.TRAIN, Mark.VALID]
    with pytest.raises(UserError, match=r"dataset.split: user u1 has an event after one of a later part"):
        AsGiven().cut(ordered([1, 3, 1], marks=marks))
    AsGiven().cut(ordered([1, 2, 2], marks=marks))


def test_as_given_needs_marks():
    with pytest.raises(UserError, match=r"does not come ready split"):
        AsGiven().cut(ordered([3]))


def test_a_source_that_comes_split_is_not_split_again():
    with pytest.raises(UserError, match=r"dataset.split=as_given"):
        LeaveOneOut().cut(ordered([3], marks=[0, 0, 0]))


def test_bad_word_lists_the_choices():
    with pytest.raises(UserError, match=r"no split 'loo'. Choose one of leave_one_out, temporal, as_given"):
        split_named("loo", (0.8, 0.9), 0.1)


@pytest.mark.parametrize("cuts", [(0.9, 0.8), (0.5,), (0.0, 0.5), (0.5, 1.0), ("a", "b")])
def test_bad_quantiles(cuts):
    with pytest.raises(UserError, match=r"dataset.temporal_cuts"):
        split_named("temporal", cuts, 0.1)
