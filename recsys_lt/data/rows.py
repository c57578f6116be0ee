"""What one training row is: every position of a user's history, or one prefix of it.

A backbone that is causal learns from every position in one pass; one that mixes positions (a
filter, a convolution to one vector) may only be read at its end, so each prefix is a row of its own.
"""

from dataclasses import dataclass

import numpy as np

from recsys_lt.data.ragged import Ints, ragged_index
from recsys_lt.data.sequences import Sequences


@dataclass(frozen=True)
class Rows:
    """Training rows: row r feeds events ``[start[r], stop[r])`` of the flat ``Sequences.items``.

    With ``every_position`` the targets are events ``[start + 1, stop + 1)``, one for each input;
    otherwise the one target is event ``stop``. All arrays are [R] int64.
    """

    user: Ints
    start: Ints
    stop: Ints
    every_position: bool

    def __len__(self) -> int:
        return len(self.user)


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


RowPlan = EveryPosition | Prefixes
