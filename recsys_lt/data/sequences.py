"""What every model trains on and is ranked by: each user's events in order, and where the split cuts."""

import hashlib
import mmap
from collections.abc import Mapping
from collections.abc import Sequence as List
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.arrays import Ints, offsets_of, pieces, ragged_index
from recsys_lt.data.item_data import TITLE, ItemColumn
from recsys_lt.errors import UserError


@dataclass(frozen=True, eq=False)  # arrays are not compared; what is worked out of an object is kept by it
class Sequences:
    """Ragged user histories with their split; arrays may be memory maps.

    Parameters
    ----------
    name
        The dataset's name.
    items
        Item ids 0..I-1 of all events, user after user, each user's in time order, [E] int32.
    offsets
        User u's events are ``items[offsets[u]:offsets[u + 1]]``, [U + 1] int64.
    train_end
        How many of a user's first events are for training, [U] int64.
    valid_at, test_at
        Place (0-based, within the user) of the validation and the test target, -1 where the user has
        none, [U] int64. The history it is ranked from is every event before it.
    n_items
        Size of the catalogue, I.
    user_ids, item_ids
        The source's own ids, [U] and [I] strings.
    split
        How the split was made, in words for the protocol.
    fingerprint
        Hash of the events and of how they were prepared: results of equal fingerprints may be compared.
    counted
        ``popularity`` where it was counted before; None to count it when it is asked for.
    times
        When each event happened, in seconds, [E] float64; None where the source does not say.
    item_data
        The columns of the items that the source offers: texts [I] or vectors [I, d] by name (``item_data``).
    """

    name: str
    items: NDArray[np.int32]
    offsets: Ints
    train_end: Ints
    valid_at: Ints
    test_at: Ints
    n_items: int
    user_ids: NDArray[np.str_]
    item_ids: NDArray[np.str_]
    split: str
    fingerprint: str
    counted: Ints | None = None
    times: NDArray[np.float64] | None = None
    item_data: Mapping[str, ItemColumn] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the files itself: the arrays may be larger than a pipe or its memory should take.
        # It makes batches, which hold no item data.
        state = {one.name: getattr(self, one.name) for one in fields(self)}
        files = {name: Path(value.filename) for name, value in state.items() if is_whole_map(value)}
        return state | files | {"item_data": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            opened = np.load(value, mmap_mode="r", allow_pickle=False) if isinstance(value, Path) else value
            object.__setattr__(self, name, opened)

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def titles(self) -> NDArray[np.str_]:
        """A title for each item, "" where there is none, [I]."""
        found = self.item_data.get(TITLE)
        return np.zeros(self.n_items, dtype=np.str_) if found is None else found.astype(np.str_, copy=False)

    @cached_property
    def item_fingerprint(self) -> str:
        """Hash of the item vocabulary, the ids in order: weights fit all data that share it."""
        ids = "".join(f"{len(item)}:{item}" for item in self.item_ids.tolist())
        return hashlib.sha256(ids.encode()).hexdigest()[:32]

    @cached_property
    def item_index(self) -> Any:
        """The item ids as a pandas.Index, which finds the number of each."""
        import pandas as pd

        return pd.Index(self.item_ids.astype(np.object_))

    @cached_property
    def user_index(self) -> Any:
        """The user ids as a pandas.Index."""
        import pandas as pd

        return pd.Index(self.user_ids.astype(np.object_))

    def repeated_targets(self) -> int:
        """How many test targets are items that the user had before."""
        targets = np.full(self.n_users, -1, dtype=np.int32)
        users = np.flatnonzero(self.test_at > 0)
        targets[users] = self.targets(users, "test")
        same = np.flatnonzero(self.items == np.repeat(targets, np.diff(self.offsets)))
        user = np.searchsorted(self.offsets, same, side="right") - 1
        return len(np.unique(user[same - self.offsets[user] < self.test_at[user]]))

    def of_histories(self, histories: Mapping[str, List[str]]) -> tuple["Sequences", int]:
        """Histories of other users, or newer ones of the same users, over this item vocabulary.

        ``histories`` are the source's item ids of each user's events, oldest first, by the user's id. They become
        sequences without training events or targets: item vocabulary, item data and popularity are these data's. Events
        whose item is not in the vocabulary are left out; their number is returned too. Raises UserError where nothing
        is left of a user's history.
        """
        flat = [str(item) for item in chain.from_iterable(histories.values())]
        items = self.item_index.get_indexer(np.array(flat, dtype=np.object_))
        lengths = np.array([len(history) for history in histories.values()], dtype=np.int64)
        known = np.bincount(np.repeat(np.arange(len(lengths)), lengths)[items >= 0], minlength=len(lengths))
        if not known.all() or not len(known):
            raise UserError(
                f"no event of user {list(histories)[int(known.argmin())]} is of a known item" if len(known)
                else "there are no histories",
                where="histories",
                remedy=f"Give each user an event of one of the {self.n_items:,} items of {self.name}, by id, such as "
                f"{', '.join(self.item_ids[:3])}",
            )  # fmt: skip
        kept = items[items >= 0].astype(np.int32)
        content = hashlib.sha256(b"".join([self.item_fingerprint.encode(), known.tobytes(), kept.tobytes()]))
        none = np.full(len(known), -1, dtype=np.int64)
        made = replace(
            self,
            items=kept,
            offsets=offsets_of(known),
            train_end=np.zeros(len(known), dtype=np.int64),
            valid_at=none,
            test_at=none,
            user_ids=np.array(list(histories), dtype=np.str_),
            split="no targets",
            fingerprint=content.hexdigest()[:32],
            counted=self.popularity,
            times=None,
        )
        return made, len(items) - len(kept)

    @cached_property
    def popularity(self) -> Ints:
        """Training interactions of each item, [I] int64."""
        return self._counts() if self.counted is None else self.counted

    def popularity_within(self, seconds: float) -> Ints:
        """Training interactions of each item in the last ``seconds`` up to the latest of all, [I] int64.

        One that is older by ``seconds`` exactly does not count. Raises ValueError without ``times``.
        """
        if self.times is None:
            raise ValueError(f"{self.name} has no times")
        trained = np.flatnonzero(self.train_end > 0)
        # A user's events are in order of time: the last one of each is all there is to look at.
        last = self.times[self.offsets[trained] + self.train_end[trained] - 1]
        return self._counts(self.times > last.max(initial=-np.inf) - seconds)

    def _counts(self, among: NDArray[np.bool_] | None = None) -> Ints:
        """Training interactions of each item, [I]; of the events marked True [E] alone."""
        counts = np.zeros(self.n_items, dtype=np.int64)
        for users in pieces(self.n_users, 1 << 18):  # mapped arrays are never in memory at once
            index = ragged_index(self.offsets[:-1][users], self.train_end[users])
            counts += np.bincount(self.items[index if among is None else index[among[index]]], minlength=self.n_items)
        return counts

    def targets_at(self, stage: str) -> Ints:
        """``valid_at`` or ``test_at``."""
        return {"valid": self.valid_at, "test": self.test_at}[stage]

    def targets(self, users: Ints, stage: str) -> Ints:
        """Targets at a stage of users [n] who have one, [n] int64."""
        return np.asarray(self.items)[self.offsets[users] + self.targets_at(stage)[users]].astype(np.int64)


def is_whole_map(value: Any) -> bool:
    """Whether it is an array that is all of a file, mapped."""
    return isinstance(value, np.memmap) and isinstance(value.base, mmap.mmap) and value.filename is not None
