"""Which user the n-th thing belongs to, when each user has some number of them, in constant memory."""

from collections.abc import Callable

import numpy as np

from recsys_lt.data.pieces import PIECE, pieces
from recsys_lt.data.ragged import Ints, offsets_of

ENTRIES = 1 << 20  # at most twice as many running totals are kept: 16 MB


class Owners:
    """Things numbered user after user.

    A running total is kept at every ``stride``-th user only, so that memory does not grow with the users; what
    lies between two of them is counted again when it is asked for.

    Parameters
    ----------
    counts
        How many things each of the given users has: ids [n] -> [n] int64. Asked again and again, so pure.
    n_users
        How many users there are.
    entries
        About how many totals to keep; None for ``ENTRIES``.
    """

    def __init__(self, counts: Callable[[Ints], Ints], n_users: int, entries: int | None = None) -> None:
        self._counts, self._n_users = counts, n_users
        self._stride = max(1, n_users // (entries or ENTRIES))
        totals = [np.zeros(0, dtype=np.int64)]
        for piece in pieces(n_users, max(1, PIECE // 16 // self._stride) * self._stride):
            each = counts(np.arange(piece.start, piece.stop))
            totals.append(np.add.reduceat(each, np.arange(0, len(each), self._stride)))
        self._before = offsets_of(np.concatenate(totals))

    def __len__(self) -> int:
        return int(self._before[-1])

    def of(self, numbers: Ints) -> tuple[Ints, Ints]:
        """The owner of each thing, and which of the owner's things it is (from 0): [n] -> [n], [n]."""
        block = np.searchsorted(self._before, numbers, side="right") - 1
        user, place = block * self._stride, numbers - self._before[block]
        if self._stride > 1:
            users = user[:, None] + np.arange(self._stride)
            inside = self._counts(np.minimum(users, self._n_users - 1).ravel()).reshape(users.shape)
            # Past the last user, whose things are the last, nothing is asked for.
            upto = np.cumsum(inside, axis=1)
            step = (upto <= place[:, None]).sum(1)
            each = np.arange(len(step))
            user, place = user + step, place - (upto[each, step] - inside[each, step])
        return user, place
