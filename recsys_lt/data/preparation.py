"""From interactions to sequences: duplicates, k-core, time order, dense ids, split."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.arrays import counts_of, offsets_of
from recsys_lt.data.filters import duplicate_policy, k_core
from recsys_lt.data.interactions import Codes, Interactions, Texts
from recsys_lt.data.order import Places, in_time_order, renumbered
from recsys_lt.data.sequences import Sequences
from recsys_lt.data.splits import Ordered, split_named
from recsys_lt.errors import UserError

T = TypeVar("T", bound=np.generic)
LONGEST_ID = 256  # characters


@dataclass(frozen=True)
class Preparation:
    """How interactions become sequences: the settings of ``Dataset`` of these names."""

    k_core: int = 5
    split: str = "leave_one_out"
    temporal_cuts: tuple[float, ...] = (0.8, 0.9)
    duplicates: str = "keep"

    def check(self) -> None:
        """Raise ``UserError`` for a word or number that means nothing, before any file is read."""
        if not isinstance(self.k_core, int) or isinstance(self.k_core, bool) or self.k_core < 0:
            what = f"{self.k_core!r} is no number of events"
            raise UserError(what, where="dataset.k_core", remedy="Give one, such as 5")
        split_named(self.split, self.temporal_cuts)
        duplicate_policy(self.duplicates)

    def __call__(self, events: Interactions, name: str, with_times: bool = False) -> tuple[Sequences, list[str]]:
        """Sequences without a fingerprint, and what was dropped, one short line each.

        Users and items are numbered in order of first appearance among the events that stay; a user's events are in
        order of time, equal times in the order of the source. Times are kept only on demand: putting them in order
        costs as much as all the rest. Raises UserError where nothing is left, there is nothing to rank, or nobody has a
        target.
        """
        split = split_named(self.split, self.temporal_cuts)
        _check_ids("user", events.user_ids, events.users, events, name)
        _check_ids("item", events.item_ids, events.items, events, name)
        notes: list[str] = []
        keep = self._kept(events, name, notes)
        users, raw_users = renumbered(_taken(events.users, keep), len(events.user_ids))
        items, raw_items = renumbered(_taken(events.items, keep), len(events.item_ids))
        if self.k_core <= 1 and len(raw_items) < len(events.item_ids):
            unseen = np.setdiff1d(np.arange(len(events.item_ids)), raw_items)
            raw_items = np.concatenate([raw_items, unseen])
        if len(raw_items) < 2:
            what = "the catalogue has one item, so there is nothing to rank"
            raise UserError(what, where=name, remedy="Give data with more items")
        times = None if events.times is None else _taken(events.times, keep)
        marks = None if events.marks is None else _taken(events.marks, keep)
        del keep
        order = in_time_order(users, times, len(raw_users))
        offsets = offsets_of(counts_of(users, len(raw_users)))
        del users
        times = None if times is None or not (with_times or split.reads_times) else _taken(times, order)
        user_ids = events.user_ids[raw_users]
        cuts = split.cut(Ordered(offsets, times, None if marks is None else _taken(marks, order), user_ids))
        seconds = None if times is None or not with_times else (times * events.unit).astype(np.float64, copy=False)
        del times, marks
        for stage, at in (("validation", cuts.valid_at), ("test", cuts.test_at)):
            if (at < 0).all():
                longest = int(np.diff(offsets).max())
                what = f"no user has a {stage} target (split {split.words}; the longest sequence has {longest} events)"
                raise UserError(what, where=name, remedy=split.remedy)
        sequences = Sequences(
            name=name,
            items=_taken(items, order),
            offsets=offsets,
            n_items=len(raw_items),
            user_ids=user_ids.astype(np.str_),
            item_ids=events.item_ids[raw_items].astype(np.str_),
            split=split.words,
            fingerprint="",
            times=seconds,
            **cuts._asdict(),
        )
        return sequences, notes

    def _kept(self, events: Interactions, name: str, notes: list[str]) -> NDArray[np.bool_] | None:
        keep = None if events.repeats_are_visits else duplicate_policy(self.duplicates)(events, name)
        if keep is not None and not keep.all():
            notes.append(f"dropped {np.count_nonzero(~keep):,} exact duplicates")
        if self.k_core <= 1:
            return keep
        users, items = _taken(events.users, keep), _taken(events.items, keep)
        core = k_core(users, items, self.k_core)
        if core.all():
            return keep
        n_users, n_items = _distinct(users), _distinct(items)
        if not core.any():
            raise UserError(
                f"nothing is left: none of {n_users:,} users, {n_items:,} items and"
                f" {len(users):,} interactions is in a {self.k_core}-core",
                where=name,
                remedy="Set a smaller dataset.k_core, such as dataset.k_core=1 for no filter",
            )
        gone_users, gone_items = n_users - _distinct(users[core]), n_items - _distinct(items[core])
        notes.append(
            f"dropped {_count(gone_users, 'user')} and {_count(gone_items, 'item')}"
            f" with fewer than {self.k_core} interactions"
        )
        if keep is None:
            return core
        keep[keep] = core
        return keep


def _taken(column: NDArray[T], places: Places | NDArray[np.bool_] | None) -> NDArray[T]:
    return column if places is None else column[places]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _distinct(codes: Codes) -> int:
    return int(np.count_nonzero(counts_of(codes, int(codes.max(initial=-1)) + 1)))


def _check_ids(role: str, ids: Texts, codes: Codes, events: Interactions, name: str) -> None:
    # All ids are kept at the width of the longest: one of a megabyte would fill the disk.
    longest = max(map(len, ids), default=0)
    if longest <= LONGEST_ID:
        return
    first = int(np.argmax(codes == next(code for code, text in enumerate(ids) if len(text) == longest)))
    what = f"a {role} id has {longest:,} characters, of which {LONGEST_ID} may be"
    raise UserError(what, where=f"{name}, {events.place(first)}", remedy="Give shorter ids")
