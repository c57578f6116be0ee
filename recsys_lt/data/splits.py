"""Splits: where each user's sequence is cut into training events, validation target and test target."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.arrays import Ints
from recsys_lt.data.interactions import Mark, Times
from recsys_lt.errors import UserError


@dataclass(frozen=True)
class Ordered:
    """All events, user after user, each user's in time order; every user has at least one.

    User u's events are ``[offsets[u], offsets[u + 1])``, of the items ``items`` [E], numbers below ``n_items``.
    ``times`` [E] are there only where the source has them, ``marks`` [E] (``Mark``) only where it comes ready split;
    ``user_ids`` [U] serve messages.
    """

    items: NDArray[np.int32]
    n_items: int
    offsets: Ints
    times: Times | None
    marks: NDArray[np.int8] | None
    user_ids: NDArray[Any]

    def count(self, where: NDArray[np.bool_]) -> Ints:
        """How many of each user's events are marked True: [E] -> [U]."""
        counts: Ints = np.add.reduceat(where, self.offsets[:-1], dtype=np.int64)
        return counts

    def first(self, where: NDArray[np.bool_]) -> Ints:
        """Place within each user of the first event marked True, -1 where there is none: [E] -> [U]."""
        places = np.full(len(self.offsets) - 1, -1, dtype=np.int64)
        at = np.flatnonzero(where)[::-1]  # backwards, as of several values for one place the last one written stays
        users = np.searchsorted(self.offsets, at, side="right") - 1
        places[users] = at - self.offsets[users]
        return places


class Cuts(NamedTuple):
    """As in ``Sequences``: all [U] int64, -1 for no target."""

    train_end: Ints
    valid_at: Ints
    test_at: Ints


class Split(ABC):
    """A rule that cuts every user's sequence; ``words`` name it in the protocol."""

    words: str
    remedy: ClassVar[str]
    """What to do where nobody has a target."""

    @abstractmethod
    def cut(self, events: Ordered) -> Cuts:
        """Cut; raises ``UserError`` where the events lack what the rule needs."""


class LeaveOneOut(Split):
    """A user's last event is the test target, the one before it the validation target.

    A user with fewer than three events is for training only.
    """

    words = "leave-one-out"
    remedy = "Give some user at least three events, or choose another dataset.split"

    def cut(self, events: Ordered) -> Cuts:
        if events.marks is not None:
            raise _refusal("the source comes ready split, and other rows may hold the same events", "as_given")
        n = np.diff(events.offsets)
        split = n >= 3
        return Cuts(np.where(split, n - 2, n), np.where(split, n - 2, -1), np.where(split, n - 1, -1))


class Temporal(Split):
    """Two moments, quantiles of all times, cut everyone's events: nothing is learnt from anyone's future.

    Training is all before the first moment. The validation target is a user's first event from the first moment on, if
    it is before the second; the test target the first from the second on. Either needs an event before it. Raises
    UserError where the quantiles are not two rising ones between 0 and 1.
    """

    remedy = "Move dataset.temporal_cuts, or use dataset.split=leave_one_out"

    def __init__(self, cuts: Sequence[float] = (0.8, 0.9)) -> None:
        if len(cuts) != 2 or not all(isinstance(cut, int | float) for cut in cuts) or not 0 < cuts[0] < cuts[1] < 1:
            what = f"{list(cuts)} are not two rising quantiles between 0 and 1"
            raise UserError(what, where="dataset.temporal_cuts", remedy="Give two, such as [0.8,0.9]")
        self.cuts = cuts
        self.words = f"temporal (cut at the {cuts[0]:g} and {cuts[1]:g} quantiles of time)"

    def cut(self, events: Ordered) -> Cuts:
        times = events.times
        if times is None:
            raise _refusal("a temporal split needs the time of each event, and this source has none", "leave_one_out")
        # An event's own time, not a mean of two: the cut is then exact, in whole numbers too.
        places = [min(int(np.ceil(q * (len(times) - 1))), len(times) - 1) for q in self.cuts]
        sorted_there = np.partition(times, places)
        before_first, before_second = (events.count(times < sorted_there[place]) for place in places)
        valid = (before_first >= 1) & (before_first < before_second)
        test = (before_second >= 1) & (before_second < np.diff(events.offsets))
        return Cuts(before_first, np.where(valid, before_first, -1), np.where(test, before_second, -1))


class ColdItems(Split):
    """A share of the items, drawn at random, has no training event: their events are what is ranked.

    Half of these items are for validation and half for the test. A user's first event with such an item is the target;
    the history is all before it. Training is all before a user's first event with any of them. A target needs an event
    before it. Raises UserError where the share is not between 0 and 1.
    """

    remedy = "Raise dataset.cold_share, or use dataset.split=leave_one_out"

    def __init__(self, share: float = 0.1) -> None:
        if not 0 < share < 1:
            remedy = "Give a share of the items between 0 and 1, such as 0.1"
            raise UserError(f"it is {share}", where="dataset.cold_share", remedy=remedy)
        self.share = share
        self.words = f"cold items ({share:.0%} of the items have no training event)"

    def cut(self, events: Ordered) -> Cuts:
        drawn = np.random.default_rng(0).permutation(events.n_items)[: max(2, round(self.share * events.n_items))]
        part = np.zeros(events.n_items, dtype=np.int8)  # 0 for training, 1 for validation, 2 for the test
        part[drawn[::2]], part[drawn[1::2]] = 1, 2
        of_event = part[events.items]
        first = events.first(of_event > 0)
        train_end = np.where(first < 0, np.diff(events.offsets), first)
        valid, test = (events.first(of_event == stage) for stage in (1, 2))
        return Cuts(train_end, *(np.where(places > 0, places, -1) for places in (valid, test)))


class AsGiven(Split):
    """The source says what each event is for; a user's first event of a part is its target."""

    words = "as given by the source"
    remedy = "Give the source rows of that part, each with an item before its target"

    def cut(self, events: Ordered) -> Cuts:
        marks = events.marks
        if marks is None:
            raise _refusal(
                "this source does not come ready split", "leave_one_out or temporal, or a table with a column split"
            )
        late = marks[1:] < marks[:-1]
        late[events.offsets[1:-1] - 1] = False  # another user's first event
        if late.any():
            user = np.searchsorted(events.offsets, np.argmax(late) + 1, side="right") - 1
            what = f"user {events.user_ids[user]} has an event after one of a later part of the split"
            remedy = "Give each user training events first in time, then validation, then test"
            raise UserError(what, where="dataset.split", remedy=remedy)
        targets = (events.first(marks == part) for part in (Mark.VALID, Mark.TEST))
        return Cuts(events.count(marks == Mark.TRAIN), *targets)


def _refusal(what: str, use: str) -> UserError:
    return UserError(what, where="dataset.split", remedy=f"Use dataset.split={use}")


_SPLITS = ("leave_one_out", "temporal", "as_given", "cold_items")


def split_named(word: str, temporal_cuts: Sequence[float], cold_share: float) -> Split:
    """The split of this name, with the settings of ``Dataset`` that concern it; or ``UserError``."""
    if word == "temporal":
        return Temporal(temporal_cuts)
    if word == "cold_items":
        return ColdItems(cold_share)
    if word in _SPLITS:
        return LeaveOneOut() if word == "leave_one_out" else AsGiven()
    raise UserError(f"no split {word!r}", where="dataset.split", remedy=f"Choose one of {', '.join(_SPLITS)}")
