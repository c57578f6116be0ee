"""What one training row is: every position of a user's history, or one prefix of it.

A backbone that is causal learns from every position in one pass; one that mixes positions (a
filter, a convolution to one vector) may only be read at its end, so each prefix is a row of its own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.ragged import Ints, ragged_index
from recsys_lt.data.sequences import Sequences

ALL = slice(None)


@dataclass(frozen=True)
class Rows:
    """Training rows: row r feeds events ``[start[r], stop[r])`` of the flat ``Sequences.items``.

    With ``every_position`` the targets are events ``[start + 1, stop + 1)``, one for each input;
    otherwise the one target is event ``stop``. All arrays are [R] int64, but for ``ends`` [R] bool: rows which,
    though ``every_position``, are supervised at their end alone; None where there are none.
    """

    user: Ints
    start: Ints
    stop: Ints
    every_position: bool
    ends: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.user)

    def n_targets(self, rows: Ints | slice = ALL) -> int:
        """Targets of the given rows together."""
        lengths = self.stop[rows] - self.start[rows]
        if not self.every_position:
            return len(lengths)
        return int(lengths.sum() if self.ends is None else np.where(self.ends[rows], 1, lengths).sum())


@dataclass(frozen=True)
class EveryPosition:
    """One row a user: the last ``max_length`` inputs, each position supervised by the next item."""

    max_length: int

    def plan(self, data: Sequences) -> Rows:
        user = np.flatnonzero(data.train_end >= 2)
        stop = data.offsets[user] + data.train_end[user] - 1
        start = np.maximum(data.offsets[user], stop - self.max_length)
        return Rows(user, start, stop, every_position=True)


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
    """

    max_length: int
    min_length: int = 2
    recent: bool = False

    def plan(self, data: Sequences) -> Rows:
        user = np.flatnonzero(data.train_end >= 2)
        first = data.offsets[user].copy()
        end = first + data.train_end[user]
        if self.recent:
            first = np.maximum(first, end - self.max_length)
        target = np.minimum(first + self.min_length, end) - 1  # place of the first prefix's target
        count = end - target
        stop = ragged_index(target, count)
        start = np.maximum(np.repeat(first, count), stop - self.max_length)
        return Rows(np.repeat(user, count), start, stop, every_position=False)


@dataclass(frozen=True)
class OnePass:
    """The targets and inputs of ``Prefixes(max_length)`` in as few rows as a causal backbone needs.

    The first ``max_length`` inputs of a user are one row, each position supervised: the state after a prefix is
    that of the prefix alone. From there on a prefix is cut to its last ``max_length`` inputs, so that a pass over the
    whole history would remember more than it may; each is a row of its own, supervised at its end.
    """

    max_length: int

    def plan(self, data: Sequences) -> Rows:
        user = np.flatnonzero(data.train_end >= 2)
        first = data.offsets[user]
        inputs = data.train_end[user] - 1
        later = np.maximum(inputs - self.max_length, 0)
        stop = ragged_index(first + self.max_length + 1, later)
        return Rows(
            np.concatenate([user, np.repeat(user, later)]),
            np.concatenate([first, stop - self.max_length]),
            np.concatenate([first + np.minimum(inputs, self.max_length), stop]),
            every_position=True,
            ends=np.repeat([False, True], [len(user), len(stop)]),
        )


RowPlan = EveryPosition | Prefixes | OnePass
