"""Next-item prediction: from every position in one pass, or from prefixes.

A causal backbone learns from every position of a history in one pass. A backbone that mixes positions (a filter, a
convolution to one vector) is read at the last event only, so each prefix is an example of its own.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recsys_lt.data.arrays import Ints, ragged_index
from recsys_lt.data.batch import Batch
from recsys_lt.data.sequences import Sequences
from recsys_lt.data.tasks.task import UserTask, packed, streams_of
from recsys_lt.errors import UserError


class Spans(NamedTuple):
    """Inputs and targets of B examples as places in ``Sequences.items``; all columns are [B] int64.

    The inputs are events ``[start, stop)``. The targets are the last ``n_targets`` of events ``[start + 1, stop + 1)``,
    each predicted from the event before it and those before that.
    """

    start: Ints
    stop: Ints
    n_targets: Ints


class NextItem(UserTask):
    """Tasks whose targets each come right after an input.

    Attributes
    ----------
    one_target
        Whether every example has one target, after its last event.
    times
        Whether batches say when their events happened.
    """

    one_target: bool = False
    times: bool = False

    @abstractmethod
    def spans(self, place: Ints, first: Ints, train_end: Ints) -> Spans:
        """Spans of example number ``place`` of each user, whose events begin at ``first``; all [B]."""

    def batch(self, data: Sequences, numbers: Ints, stream: int) -> Batch:
        user, (start, stop, n_targets) = self._spans(data, numbers)
        lengths = stop - start
        index = ragged_index(start, lengths)
        # Which of the batch's events are followed by a target.
        events = None if self.one_target else ragged_index(lengths.cumsum() - n_targets, n_targets)
        items = np.asarray(data.items)
        return packed(
            user,
            items[index],
            lengths,
            items[stop if events is None else index[events] + 1],
            streams_of(stream, numbers),
            events,
            data.times[index] if self.times and data.times is not None else None,
        )

    def n_targets(self, data: Sequences, numbers: Ints, stream: int) -> int:
        return len(numbers) if self.one_target else int(self._spans(data, numbers)[1].n_targets.sum())

    def _spans(self, data: Sequences, numbers: Ints) -> tuple[Ints, Spans]:
        user, place = self.located(data, numbers)
        # Plain arrays over the same memory: numpy's class for maps makes every small operation on them slower.
        return user, self.spans(place, np.asarray(data.offsets)[user], np.asarray(data.train_end)[user])


@dataclass(frozen=True)
class EveryPosition(NextItem):
    """One example a user: the last ``max_length`` inputs, each position supervised by the next item (SASRec)."""

    max_length: int
    times: bool = False

    def spans(self, place: Ints, first: Ints, train_end: Ints) -> Spans:
        stop = first + train_end - 1
        start = np.maximum(first, stop - self.max_length)
        return Spans(start, stop, stop - start)


@dataclass(frozen=True)
class Prefixes(NextItem):
    """One example a prefix: its last item is the target, the ``max_length`` items before it the input.

    The shortest prefix has ``min_length`` items, target included; a user with fewer training events gives one example
    of all of them. With ``recent`` prefixes are formed only of a user's last ``max_length`` training items (FMLP-Rec,
    BSARec), so that no input is older than that. Raises UserError if that leaves no item to read beside the target.
    """

    max_length: int
    min_length: int = 2
    recent: bool = False
    one_target = True

    def __post_init__(self) -> None:
        if self.recent and self.max_length < 2:
            what = f"of a user's last {self.max_length} training items one is the target, so none is left to read"
            raise UserError(what, where="model.max_length", remedy="Give at least 2")

    def count(self, train_end: Ints) -> Ints:
        return np.where(train_end < 2, 0, train_end - self._first_target(train_end))

    def spans(self, place: Ints, first: Ints, train_end: Ints) -> Spans:
        stop = first + self._first_target(train_end) + place
        start = np.maximum(first + self._oldest(train_end), stop - self.max_length)
        return Spans(start, stop, np.ones_like(stop))

    def _oldest(self, train_end: Ints) -> Ints:
        """Place within the user of the first event read."""
        return np.maximum(train_end - self.max_length, 0) if self.recent else np.zeros_like(train_end)

    def _first_target(self, train_end: Ints) -> Ints:
        """Place within the user of the first prefix's target."""
        return np.minimum(self._oldest(train_end) + self.min_length, train_end) - 1


@dataclass(frozen=True)
class OnePass(NextItem):
    """The targets and inputs of ``Prefixes(max_length)`` in as few examples as a causal backbone needs.

    The first ``max_length`` inputs of a user are one example, each position supervised: the state after a prefix is
    that of the prefix alone. Later prefixes are cut to their last ``max_length`` inputs, so that a pass over all of the
    history would remember more than it may; each is an example of its own, supervised at its end.
    """

    max_length: int

    def count(self, train_end: Ints) -> Ints:
        return np.where(train_end < 2, 0, 1 + np.maximum(train_end - 1 - self.max_length, 0))

    def spans(self, place: Ints, first: Ints, train_end: Ints) -> Spans:
        stop = first + np.minimum(train_end - 1, self.max_length + place)
        start = np.maximum(first, stop - self.max_length)
        return Spans(start, stop, np.where(place == 0, stop - start, 1))
