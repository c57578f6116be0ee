"""What to do with an event that is in the source twice: same user, same item, same time."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.interactions import Interactions
from recsys_lt.data.order import repeated
from recsys_lt.errors import UserError


class DuplicatePolicy(Protocol):
    """Which events stay; without times, the same user and item are the same event."""

    def keep(self, events: Interactions, name: str) -> NDArray[np.bool_] | None:
        """Whether each event stays, [E]; None where all do."""


class KeepDuplicates:
    """All stay."""

    def keep(self, events: Interactions, name: str) -> None:
        return None


class DropDuplicates:
    """The first of equal events stays."""

    def keep(self, events: Interactions, name: str) -> NDArray[np.bool_] | None:
        return None if events.repeats_are_visits else ~_repeated(events)


class RefuseDuplicates:
    """Equal events are an error, because only the owner of the file knows what they mean."""

    def keep(self, events: Interactions, name: str) -> None:
        if events.repeats_are_visits:
            return
        repeated = _repeated(events)
        if not repeated.any():
            return
        first = int(np.argmax(repeated))
        user, item = events.user_ids[events.users[first]], events.item_ids[events.items[first]]
        at = "" if events.times is None else f" at {events.times[first]}"
        raise UserError(
            f"user {user} and item {item}{at} are there a second time ({np.count_nonzero(repeated):,} such rows)",
            where=f"{name}, {events.place(first)}",
            remedy="Set dataset.duplicates=drop to leave them out, or dataset.duplicates=keep to keep all",
        )


def _repeated(events: Interactions) -> NDArray[np.bool_]:
    return repeated(events.users, events.items, events.times, len(events.user_ids))


_POLICIES: dict[str, DuplicatePolicy] = {
    "keep": KeepDuplicates(),
    "drop": DropDuplicates(),
    "error": RefuseDuplicates(),
}


def duplicate_policy(word: str) -> DuplicatePolicy:
    """The policy of this name.

    Raises
    ------
    UserError
        There is none.
    """
    if word not in _POLICIES:
        raise UserError(
            f"no policy {word!r}", where="dataset.duplicates", remedy=f"Choose one of {', '.join(_POLICIES)}"
        )
    return _POLICIES[word]
