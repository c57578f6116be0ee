"""What every model trains on and is ranked by: each user's events in order, and where the split cuts."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.ragged import Ints, offsets_of, ragged_index


@dataclass(frozen=True)
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
    item_titles
        A title for each item ("" where the source has none), [I] strings.
    split
        How the split was made, in words for the protocol.
    fingerprint
        Hash of the content, so that a checkpoint knows the data it was trained on.
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
    item_titles: NDArray[np.str_]
    split: str
    fingerprint: str

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def popularity(self) -> Ints:
        """Training interactions of each item, [I] int64."""
        counts = np.zeros(self.n_items, dtype=np.int64)
        # In pieces of users: a memory-mapped catalogue of interactions is never in memory at once.
        for first in range(0, self.n_users, 1 << 18):
            users = np.arange(first, min(first + (1 << 18), self.n_users))
            index = ragged_index(self.offsets[users], self.train_end[users])
            counts += np.bincount(self.items[index], minlength=self.n_items)
        return counts

    @cached_property
    def train_sets(self) -> tuple[Ints, Ints]:
        """Each user's distinct training items in ascending order: flat items [S] and offsets [U + 1]."""
        users = np.repeat(np.arange(self.n_users), self.train_end)
        items = self.items[ragged_index(self.offsets[:-1], self.train_end)].astype(np.int64)
        pairs = np.unique(users * self.n_items + items)
        lengths = np.bincount(pairs // self.n_items, minlength=self.n_users)
        return pairs % self.n_items, offsets_of(lengths)

    def targets_at(self, stage: str) -> Ints:
        """``valid_at`` or ``test_at``."""
        return {"valid": self.valid_at, "test": self.test_at}[stage]
