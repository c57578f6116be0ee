"""Which events stay: the k-core, and events that are in the source twice."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.arrays import counts_of, place_type
from recsys_lt.data.interactions import Codes, Interactions
from recsys_lt.data.order import repeated
from recsys_lt.errors import UserError


def k_core(users: Codes, items: Codes, k: int) -> NDArray[np.bool_]:
    """Which events [E] remain when users and items with fewer than k events go, again and again.

    The order of removal makes no difference; a k of 1 or less keeps all.
    """
    keep = np.ones(len(users), dtype=np.bool_)
    if k <= 1 or not len(users):
        return keep
    left = np.arange(len(users), dtype=place_type(len(users)))
    user_counts, item_counts = (counts_of(codes, int(codes.max()) + 1) for codes in (users, items))
    while True:
        stays = (user_counts >= k)[users]
        stays &= (item_counts >= k)[items]
        gone = ~stays
        if not gone.any():
            return keep
        keep[left[gone]] = False
        # Only what went is counted again: late rounds remove little.
        user_counts -= counts_of(users[gone], len(user_counts))
        item_counts -= counts_of(items[gone], len(item_counts))
        left, users, items = left[stays], users[stays], items[stays]


#: Which events stay, [E]; None where all do.
Keep = NDArray[np.bool_] | None


def _drop(events: Interactions, _name: str) -> Keep:
    return ~repeated(events.users, events.items, events.times, len(events.user_ids))


def _error(events: Interactions, name: str) -> Keep:
    # Only the owner of the file knows what they mean.
    twice = repeated(events.users, events.items, events.times, len(events.user_ids))
    if twice.any():
        first = int(np.argmax(twice))
        user, item = events.user_ids[events.users[first]], events.item_ids[events.items[first]]
        at = "" if events.times is None else f" at {events.times[first]}"
        what = f"user {user} and item {item}{at} are there a second time ({np.count_nonzero(twice):,} such rows)"
        remedy = "Set dataset.duplicates=drop to leave them out, or dataset.duplicates=keep to keep all"
        raise UserError(what, where=f"{name}, {events.place(first)}", remedy=remedy)
    return None


_POLICIES: dict[str, Callable[[Interactions, str], Keep]] = {
    "keep": lambda events, name: None,
    "drop": _drop,
    "error": _error,
}


def duplicate_policy(word: str) -> Callable[[Interactions, str], Keep]:
    """The policy of this name, keep, drop (the first stays) or error: (events, dataset's name) -> which stay."""
    if word not in _POLICIES:
        choices = f"Choose one of {', '.join(_POLICIES)}"
        raise UserError(f"no policy {word!r}", where="dataset.duplicates", remedy=choices)
    return _POLICIES[word]
