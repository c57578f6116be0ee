"""Events in order of user and time, and what is found among one user's events, without a sort of the whole table."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.arrays import PIECE, Ints, counts_of, offsets_of, pieces, place_type
from recsys_lt.data.interactions import Codes, Times

Places = NDArray[np.int32 | np.int64]
_MOST_GROUPS = 1 << 12


def renumbered(codes: Codes, n: int) -> tuple[Codes, Ints]:
    """Codes [E] of 0..n-1 as 0, 1, ... in order of first appearance, and the old code of each new one.

    Where nothing changes, the codes are returned as they are.
    """
    first = np.full(n, len(codes), dtype=np.int64)
    # Backwards, as of several values for one place the last one written stays.
    for piece in reversed(list(pieces(len(codes)))):
        first[codes[piece][::-1]] = np.arange(piece.stop - 1, piece.start - 1, -1)
    old: Ints = np.argsort(first, kind="stable")[: np.count_nonzero(first < len(codes))]
    if (np.diff(old, prepend=-1) == 1).all():
        return codes, old
    new_of_old = np.zeros(n, dtype=np.int32)
    new_of_old[old] = np.arange(len(old), dtype=np.int32)
    return new_of_old[codes], old


def in_time_order(users: Codes, times: Times | None, n_users: int) -> Places | None:
    """The order that sorts by user, then time, then place in the source: [E]; None where they are so already."""
    if _is_sorted(users, times):
        return None
    order, groups = _by_groups_of_users(users, n_users)
    for group in groups:
        inside = order[group]
        if times is None:
            inner = np.argsort(users[inside], kind="stable")
        else:
            inner = np.lexsort((times[inside], users[inside]))
        order[group] = inside[inner]
    return order


def repeated(users: Codes, items: Codes, times: Times | None, n_users: int) -> NDArray[np.bool_]:
    """Whether an earlier event has the same user, item and time (if there are times): [E]."""
    found = np.zeros(len(users), dtype=np.bool_)
    order, groups = _by_groups_of_users(users, n_users)
    for group in groups:
        inside = order[group]
        columns = [column[inside] for column in (times, items, users) if column is not None]
        inner = np.lexsort(columns)  # stable: of equal events the first in the source comes first
        same = np.ones(max(len(inside) - 1, 0), dtype=np.bool_)
        for column in columns:
            ordered = column[inner]
            same &= ordered[1:] == ordered[:-1]
        found[inside[inner[1:][same]]] = True
    return found


def _is_sorted(users: Codes, times: Times | None) -> bool:
    for piece in pieces(len(users) - 1):
        here, later = piece, slice(piece.start + 1, piece.stop + 1)
        if (users[later] < users[here]).any():
            return False
        if times is not None and ((users[later] == users[here]) & (times[later] < times[here])).any():
            return False
    return True


def _by_groups_of_users(users: Codes, n_users: int) -> tuple[Places, list[slice]]:
    """The places of all events so that groups of neighbouring users come one after the other, and where each lies.

    Within a group places ascend. A group holds about ``PIECE`` events, or one user with more.
    """
    n_events = len(users)
    ends = offsets_of(counts_of(users, n_users))[1:]
    size = max(PIECE, -(-n_events // _MOST_GROUPS))
    # An event's group follows from the place its user's last event will have.
    group_of: NDArray[np.uint16] = np.unique((ends - 1) // size, return_inverse=True)[1].astype(np.uint16)
    sizes = np.bincount(group_of, weights=np.diff(ends, prepend=0)).astype(np.int64)
    bounds = offsets_of(sizes)
    order: Places = np.empty(n_events, dtype=place_type(n_events))
    free = bounds[:-1].copy()
    for piece in pieces(n_events):
        groups = group_of[users[piece]]
        inner: NDArray[Any] = np.argsort(groups, kind="stable")  # of 16-bit numbers: a radix sort
        counts = np.bincount(groups, minlength=len(free))
        inner += piece.start
        for group, start, count in zip(*_nonempty(counts), strict=True):
            order[free[group] : free[group] + count] = inner[start : start + count]
        free += counts
    return order, [slice(int(a), int(b)) for a, b in pairwise(bounds)]


def _nonempty(counts: Ints) -> Iterator[list[int]]:
    """Numbers, starts and lengths of the pieces of these lengths that are not empty."""
    which = np.flatnonzero(counts)
    yield which.tolist()
    yield offsets_of(counts)[:-1][which].tolist()
    yield counts[which].tolist()
