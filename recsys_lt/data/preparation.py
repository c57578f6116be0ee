"""From interactions to sequences: duplicates, k-core, time order, dense ids, split."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys_lt.data.arrays import Ints, offsets_of
from recsys_lt.data.interactions import Codes, Interactions, Texts, Times
from recsys_lt.data.sequences import Sequences
from recsys_lt.data.splits import Ordered, split_named
from recsys_lt.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_DUPLICATES = ("keep", "drop", "error")
LONGEST_ID = 256  # characters


@dataclass(frozen=True)
class Preparation:
    """How interactions become sequences: the settings of ``Dataset`` of these names.

    Raises UserError for a word or number that means nothing.
    """

    k_core: int = 5
    split: str = "leave_one_out"
    temporal_cuts: tuple[float, ...] = (0.8, 0.9)
    cold_share: float = 0.1
    duplicates: str = "keep"

    def __post_init__(self) -> None:
        if not isinstance(self.k_core, int) or isinstance(self.k_core, bool) or self.k_core < 1:
            what = f"{self.k_core!r} is no number of events"
            raise UserError(what, where="dataset.k_core", remedy="Give one, such as 5; 1 keeps all")
        split_named(self.split, self.temporal_cuts, self.cold_share)
        if self.duplicates not in _DUPLICATES:
            remedy = f"Choose one of {', '.join(_DUPLICATES)}"
            raise UserError(f"no policy {self.duplicates!r}", where="dataset.duplicates", remedy=remedy)

    def __call__(self, events: Interactions, name: str) -> tuple[Sequences, list[str]]:
        """Sequences without a fingerprint, and what was dropped, one short line each.

        Users and items are numbered in order of first appearance among the events that stay; a user's events are in
        order of time, equal times in the order of the source. Raises UserError where nothing is left, there is nothing
        to rank, or nobody has a target.
        """
        import pandas as pd

        _check_ids("user", events.user_ids, events.users, events, name)
        _check_ids("item", events.item_ids, events.items, events, name)
        given = {"user": events.users, "item": events.items, "time": events.times, "mark": events.marks}
        table = pd.DataFrame({key: column for key, column in given.items() if column is not None}, copy=False)
        notes: list[str] = []
        if self.duplicates != "keep" and not events.repeats_are_visits:
            table = self._each_once(table, events, name, notes)
        table = self._core(table, name, notes)

        users, raw_users = pd.factorize(table["user"].to_numpy())
        item_codes, seen = pd.factorize(table["item"].to_numpy())
        items = item_codes.astype(np.int32)
        unseen = np.setdiff1d(np.arange(len(events.item_ids)), seen) if self.k_core <= 1 else seen[:0]
        raw_items = np.concatenate([seen, unseen])
        if len(raw_items) < 2:
            what = "the catalogue has one item, so there is nothing to rank"
            raise UserError(what, where=name, remedy="Give data with more items")
        offsets = offsets_of(np.bincount(users))
        columns = {key: table[key].to_numpy() for key in ("time", "mark") if key in table}
        order = _time_order(users, columns.get("time"))
        del table, users, item_codes  # as long as the data
        if order is not None:
            items, columns = items[order], {key: column[order] for key, column in columns.items()}
        times, marks = columns.get("time"), columns.get("mark")
        user_ids = events.user_ids[raw_users]
        split = split_named(self.split, self.temporal_cuts, self.cold_share)
        cuts = split.cut(Ordered(items, len(raw_items), offsets, times, marks, user_ids))
        for stage, at in (("validation", cuts.valid_at), ("test", cuts.test_at)):
            if (at < 0).all():
                longest = int(np.diff(offsets).max())
                what = f"no user has a {stage} target (split {split.words}; the longest sequence has {longest} events)"
                raise UserError(what, where=name, remedy=split.remedy)
        sequences = Sequences(
            name=name,
            items=items,
            offsets=offsets,
            n_items=len(raw_items),
            user_ids=user_ids.astype(np.str_),
            item_ids=events.item_ids[raw_items].astype(np.str_),
            split=split.words,
            fingerprint="",
            times=None if times is None else (times * events.unit).astype(np.float64, copy=False),
            **cuts._asdict(),
        )
        return sequences, notes

    def _each_once(self, table: "pd.DataFrame", events: Interactions, name: str, notes: list[str]) -> "pd.DataFrame":
        """The first of the events of one user, item and time; UserError for a second one if they are errors."""
        twice = table.duplicated([key for key in ("user", "item", "time") if key in table]).to_numpy()
        n_twice = np.count_nonzero(twice)
        if n_twice and self.duplicates == "error":
            # Only the owner of the file knows what they mean.
            first = int(np.argmax(twice))
            user, item = events.user_ids[events.users[first]], events.item_ids[events.items[first]]
            at = "" if events.times is None else f" at {events.times[first]}"
            raise UserError(
                f"user {user} and item {item}{at} are there a second time ({n_twice:,} such rows)",
                where=f"{name}, {events.place(first)}",
                remedy="Set dataset.duplicates=drop to leave them out, or dataset.duplicates=keep to keep all",
            )
        if n_twice:
            notes.append(f"dropped {n_twice:,} exact duplicates")
        return table[~twice]

    def _core(self, table: "pd.DataFrame", name: str, notes: list[str]) -> "pd.DataFrame":
        core = k_core(table, self.k_core)
        if len(core) < len(table):
            n_users, n_items = table["user"].nunique(), table["item"].nunique()
            if not len(core):
                raise UserError(
                    f"nothing is left: none of {n_users:,} users, {n_items:,} items and"
                    f" {len(table):,} interactions is in a {self.k_core}-core",
                    where=name,
                    remedy="Set a smaller dataset.k_core, such as dataset.k_core=1 for no filter",
                )
            gone_users, gone_items = n_users - core["user"].nunique(), n_items - core["item"].nunique()
            notes.append(
                f"dropped {_count(gone_users, 'user')} and {_count(gone_items, 'item')}"
                f" with fewer than {self.k_core} interactions"
            )
        return core


def k_core(table: "pd.DataFrame", k: int) -> "pd.DataFrame":
    """The rows that remain when users and items with fewer than k rows go, again and again.

    ``table`` has columns user and item of small whole numbers. The order of removal makes no difference.
    """
    while True:
        users, items = table["user"].to_numpy(), table["item"].to_numpy()
        stays = (np.bincount(users)[users] >= k) & (np.bincount(items)[items] >= k)
        if stays.all():
            return table
        table = table[stays]


def _time_order(users: Ints, times: Times | None) -> Ints | None:
    """The order [E] that sorts by user, then time, then place in the source; None where they are so already."""
    sorted_already = users[1:] >= users[:-1]
    if times is not None:
        sorted_already &= (users[1:] > users[:-1]) | (times[1:] >= times[:-1])
    if sorted_already.all():
        return None
    return np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _check_ids(role: str, ids: Texts, codes: Codes, events: Interactions, name: str) -> None:
    # All ids are kept at the width of the longest: one of a megabyte would fill the disk.
    longest = max(map(len, ids), default=0)
    if longest <= LONGEST_ID:
        return
    first = int(np.argmax(codes == next(code for code, text in enumerate(ids) if len(text) == longest)))
    what = f"a {role} id has {longest:,} characters, of which {LONGEST_ID} may be"
    raise UserError(what, where=f"{name}, {events.place(first)}", remedy="Give shorter ids")
