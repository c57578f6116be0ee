"""What one training row is: every position of a user's history, or one prefix of it.

A backbone that is causal learns from every position in one pass; one that mixes positions (a
filter, a convolution to one vector) may only be read at its end, so each prefix is a row of its own.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np

from recsys_lt.data.owners import Owners
from recsys_lt.data.pieces import PIECE, pieces
from recsys_lt.data.ragged import Ints
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError

#: Up to so many rows are worked out once and listed, in 24 MB.
TABULATED = 1 << 20


class Spans(NamedTuple):
    """Rows: each feeds events ``[start, stop)`` of the flat ``Sequences.items``; all columns are [n] int64.

    The targets are the last ``n_targets`` of events ``[start + 1, stop + 1)``.
    """

    user: Ints
    start: Ints
    stop: Ints
    n_targets: Ints


class Rows:
    """Training rows 0..R-1, user after user; of many rows, where one lies is worked out when it is asked for.

    Memory grows neither with the rows nor with the users.

    Parameters
    ----------
    plan
        What a row is.
    data
        The sequences.
    """

    def __init__(self, plan: "RowPlan", data: Sequences) -> None:
        self._plan, self._data = plan, data
        # Plain arrays over the same memory: numpy's class for maps makes every small operation on them slower.
        self._offsets, self._train_end = np.asarray(data.offsets), np.asarray(data.train_end)
        self._owners = Owners(lambda users: plan.count(self._train_end[users]), data.n_users)

    def __len__(self) -> int:
        return len(self._owners)

    @property
    def every_position(self) -> bool:
        """Whether every input of a row is followed by a target, but in the rows that ``mixed`` speaks of."""
        return self._plan.every_position

    @property
    def mixed(self) -> bool:
        """Whether some rows, though ``every_position``, have fewer targets than inputs."""
        return self._plan.mixed

    def at(self, numbers: Ints) -> Spans:
        """These rows: [n] of 0..R-1 -> [n]."""
        if len(self) > TABULATED:
            return self.worked_out(numbers)
        return Spans(*(column[numbers] for column in self._table))

    @cached_property
    def _table(self) -> Spans:
        return self.worked_out(np.arange(len(self)))

    def worked_out(self, numbers: Ints) -> Spans:
        """The same without a table of all rows, which only small data have."""
        user, place = self._owners.of(numbers)
        return self._plan.spans(user, place, self._offsets[user], self._train_end[user])

    @cached_property
    def n_targets(self) -> int:
        """Targets in all rows."""
        if not self.every_position:
            return len(self)
        spans = (self.at(np.arange(piece.start, piece.stop)) for piece in pieces(len(self), PIECE // 16))
        return sum(int(part.n_targets.sum()) for part in spans)

    def __reduce__(self) -> tuple[type["Rows"], tuple["RowPlan", Sequences]]:
        return Rows, (self._plan, self._data)  # what can be worked out again is not sent to another process


@dataclass(frozen=True)
class EveryPosition:
    """One row a user: the last ``max_length`` inputs, each position supervised by the next item."""

    max_length: int
    every_position: ClassVar[bool] = True
    mixed: ClassVar[bool] = False

    def plan(self, data: Sequences) -> Rows:
        return Rows(self, data)

    def count(self, train_end: Ints) -> Ints:
        """Rows of users with so many training events: [n] -> [n]."""
        return (train_end >= 2).astype(np.int64)

    def spans(self, user: Ints, place: Ints, first: Ints, train_end: Ints) -> Spans:
        """Row ``place`` of each user, whose events begin at ``first``: all [n]."""
        stop = first + train_end - 1
        start = np.maximum(first, stop - self.max_length)
        return Spans(user, start, stop, stop - start)


@dataclass(frozen=True)
class Prefixes:
    """One row a prefix: its last item is the target, the ``max_length`` items before it the input.

    Parameters
    ----------
    max_length
        Inputs kept of a prefix: its last ones.
    min_length
        Length of the shortest prefix, target included; a user with fewer training events gives one
        row of all of them.
    recent
        Form prefixes only of a user's last ``max_length`` training items (FMLP-Rec, BSARec), so that
        no input is older than that.

    Raises
    ------
    UserError
        If ``recent`` leaves no item to read beside the target.
    """

    max_length: int
    min_length: int = 2
    recent: bool = False
    every_position: ClassVar[bool] = False
    mixed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.recent and self.max_length < 2:
            raise UserError(
                f"of a user's last {self.max_length} training items one is the target, so none is left to read",
                where="model.max_length",
                remedy="Give at least 2",
            )

    def plan(self, data: Sequences) -> Rows:
        return Rows(self, data)

    def count(self, train_end: Ints) -> Ints:
        """Rows of users with so many training events: [n] -> [n]."""
        counts = train_end - self._first_target(train_end)
        counts[train_end < 2] = 0
        return counts

    def spans(self, user: Ints, place: Ints, first: Ints, train_end: Ints) -> Spans:
        """Row ``place`` of each user, whose events begin at ``first``: all [n]."""
        stop = first + self._first_target(train_end) + place
        start = np.maximum(first + self._oldest(train_end), stop - self.max_length)
        return Spans(user, start, stop, np.ones_like(stop))

    def _oldest(self, train_end: Ints) -> Ints:
        """Place within the user of the first event read."""
        return np.maximum(train_end - self.max_length, 0) if self.recent else np.zeros_like(train_end)

    def _first_target(self, train_end: Ints) -> Ints:
        """Place within the user of the first prefix's target."""
        return np.minimum(self._oldest(train_end) + self.min_length, train_end) - 1


@dataclass(frozen=True)
class OnePass:
    """The targets and inputs of ``Prefixes(max_length)`` in as few rows as a causal backbone needs.

    The first ``max_length`` inputs of a user are one row, each position supervised: the state after a prefix is
    that of the prefix alone. From there on a prefix is cut to its last ``max_length`` inputs, so that a pass over the
    whole history would remember more than it may; each is a row of its own, supervised at its end.
    """

    max_length: int
    every_position: ClassVar[bool] = True
    mixed: ClassVar[bool] = True

    def plan(self, data: Sequences) -> Rows:
        return Rows(self, data)

    def count(self, train_end: Ints) -> Ints:
        """Rows of users with so many training events: [n] -> [n]."""
        return np.where(train_end < 2, 0, 1 + np.maximum(train_end - 1 - self.max_length, 0))

    def spans(self, user: Ints, place: Ints, first: Ints, train_end: Ints) -> Spans:
        """Row ``place`` of each user, whose events begin at ``first``: all [n]."""
        stop = first + np.minimum(train_end - 1, self.max_length + place)
        start = np.maximum(first, stop - self.max_length)
        return Spans(user, start, stop, np.where(place == 0, stop - start, 1))


RowPlan = EveryPosition | Prefixes | OnePass
