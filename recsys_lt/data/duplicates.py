"""Events that are in the source twice: same user, same item, same time (if there are times)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.interactions import Interactions
from recsys_lt.data.order import repeated
from recsys_lt.errors import UserError

#: Which events stay, [E]; None where all do.
Keep = NDArray[np.bool_] | None


def _keep(_events: Interactions, _name: str) -> Keep:
    return None


def _drop(events: Interactions, _name: str) -> Keep:
    return ~repeated(events.users, events.items, events.times, len(events.user_ids))


def _error(events: Interactions, name: str) -> Keep:
    # Only the owner of the file knows what they mean.
    twice = repeated(events.users, events.items, events.times, len(events.user_ids))
    if twice.any():
        first = int(np.argmax(twice))
        user, item = events.user_ids[events.users[first]], events.item_ids[events.items[first]]
        at = "" if events.times is None else f" at {events.times[first]}"
        raise UserError(
            f"user {user} and item {item}{at} are there a second time ({np.count_nonzero(twice):,} such rows)",
            where=f"{name}, {events.place(first)}",
            remedy="Set dataset.duplicates=drop to leave them out, or dataset.duplicates=keep to keep all",
        )
    return None


_POLICIES: dict[str, Callable[[Interactions, str], Keep]] = {"keep": _keep, "drop": _drop, "error": _error}


def duplicate_policy(word: str) -> Callable[[Interactions, str], Keep]:
    """The policy of this name, keep, drop (the first stays) or error: (events, dataset's name) -> which stay."""
    if word not in _POLICIES:
        raise UserError(
            f"no policy {word!r}", where="dataset.duplicates", remedy=f"Choose one of {', '.join(_POLICIES)}"
        )
    return _POLICIES[word]
