"""Training batches (shuffled by epoch, shared by ranks) and ranking batches, made of row numbers alone."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.data.mapped import Residency
from recsys_lt.data.owners import Owners
from recsys_lt.data.permutation import Order, order_of
from recsys_lt.data.ragged import Ints, offsets_of, ragged_index
from recsys_lt.data.rows import Rows
from recsys_lt.data.sequences import Sequences
from recsys_lt.data.streams import key_of
from recsys_lt.system.stopping import held_back, leave_to_parent

# First parts of the keys of streams, so that order, rows and steps never share one.
_ORDER, _ROWS, _STEP = 1, 2, 3
_USERS = 8


#: Users' distinct items are listed once for data of so many events at most, 34 MB; else found batch by batch.
TABULATED = 1 << 22


def _tensor(array: NDArray[np.integer]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))


@dataclass(frozen=True)
class Share:
    """Which part of every batch this process takes: rank of world."""

    rank: int = 0
    world: int = 1


_ALONE = Share()


class TrainBatches(Dataset[Batch]):
    """Batch (epoch, step) as a pure function of those two numbers, whatever was asked before.

    Parameters
    ----------
    data, rows
        The sequences and the backbone's training rows in them.
    batch_rows
        Rows a batch, over all ranks.
    seed
        Of the run.
    share
        This process's part; the ranks' parts of a step together are the single process's batch.
    with_seen
        Whether batches carry each row's training items (losses with unseen negatives).
    accumulate
        Batches whose gradients make one step.
    max_rows
        Rows of an epoch, its order's first ones; None for all.
    """

    def __init__(
        self,
        data: Sequences,
        rows: Rows,
        batch_rows: int,
        seed: int,
        share: Share,
        with_seen: bool,
        accumulate: int = 1,
        max_rows: int | None = None,
    ) -> None:
        self.n_rows = len(rows) if max_rows is None else min(max_rows, len(rows))
        self.data, self.rows, self.batch_rows, self.seed = data, rows, batch_rows, seed
        self.share, self.with_seen, self.accumulate = share, with_seen, accumulate
        self._order: tuple[int, Order] | None = None
        self._tabulated = len(data.items) <= TABULATED
        self._residency = _residency(data)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_order": None, "_residency": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._residency = _residency(self.data)

    def __len__(self) -> int:
        return -(-self.n_rows // self.batch_rows)

    def order(self, epoch: int) -> Order:
        """The rows in this epoch's order: a slice of it is [n] int64."""
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, order_of(key_of(_ORDER, self.seed, epoch), len(self.rows)))
        return self._order[1]

    def __getitem__(self, index: tuple[int, int]) -> Batch:
        epoch, step = index
        whole = self.order(epoch)[step * self.batch_rows : min((step + 1) * self.batch_rows, self.n_rows)]
        rows = whole[self.share.rank :: self.share.world]
        spans = self.rows.at(whole)
        user, start, stop, n_targets = (column[self.share.rank :: self.share.world] for column in spans)
        lengths = stop - start
        index_of = ragged_index(start, lengths)
        # Of mixed rows, which of the batch's events are followed by a target.
        places = ragged_index(lengths.cumsum() - n_targets, n_targets) if self.rows.mixed else None
        targets = self.data.items[index_of + 1 if self.rows.every_position else stop]
        batch = Batch(
            users=_tensor(user),
            items=_tensor(self.data.items[index_of]),
            offsets=_tensor(offsets_of(lengths)),
            lengths=tuple(lengths.tolist()),
            targets=_tensor(targets if places is None else targets[places]),
            row_keys=_tensor(rows),
            key=key_of(_ROWS, self.seed, epoch),
            step_key=key_of(_STEP, self.seed, epoch, step),
            global_targets=int(spans.n_targets.sum()),
            seen=self._seen(user) if self.with_seen else None,
            step_targets=self._targets_of_step(epoch, step) if self.accumulate > 1 else None,
            target_events=None if places is None else _tensor(places),
        )
        self._residency.touched(len(whole))
        return batch

    def _seen(self, user: Ints) -> SeenSets:
        """Distinct training items of each row's user."""
        if self._tabulated:
            items, offsets = self.data.train_sets
            lengths = offsets[user + 1] - offsets[user]
            return SeenSets(_tensor(items[ragged_index(offsets[user], lengths)]), _tensor(offsets_of(lengths)))
        first = self.data.offsets[user]
        return _sets(self.data, first, first + self.data.train_end[user])

    def _targets_of_step(self, epoch: int, step: int) -> int:
        """Targets of all batches whose gradients make one step together with this one's."""
        first = step - step % self.accumulate
        rows = self.order(epoch)[
            first * self.batch_rows : min((first + self.accumulate) * self.batch_rows, self.n_rows)
        ]
        return int(self.rows.at(rows).n_targets.sum())


class EpochSteps(Sampler[tuple[int, int]]):
    """The (epoch, step) pairs of the epoch set last; Lightning calls ``set_epoch``.

    Parameters
    ----------
    n_steps
        Batches an epoch.
    epoch
        The first epoch asked for: workers fetch ahead before Lightning says which epoch a resumed run is at.
    """

    def __init__(self, n_steps: int, epoch: int = 0) -> None:
        self.n_steps = n_steps
        self.epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, step) for step in range(self.n_steps))

    def __len__(self) -> int:
        return self.n_steps


class RankBatches(Dataset[Batch]):
    """Batches of users to rank the catalogue for, with their target.

    Parameters
    ----------
    data
        The sequences.
    users
        Whose targets to rank: [n] int64, or what gives them by their places, [m] -> [m].
    stage
        ``valid`` or ``test``: which target; or None to read whole histories without a target (to recommend).
    max_length
        Latest events read of a history.
    batch_rows
        Users a batch.
    with_seen
        Whether batches carry each user's distinct earlier items, to be masked.
    share
        This process's part of the users.
    """

    def __init__(
        self,
        data: Sequences,
        users: "Ints | UsersWithTarget",
        stage: str | None,
        max_length: int,
        batch_rows: int,
        with_seen: bool,
        share: Share = _ALONE,
    ) -> None:
        self.data, self.users, self.max_length = data, users, max_length
        self.batch_rows, self.with_seen, self.stage, self.share = batch_rows, with_seen, stage, share
        self._residency = _residency(data)

    def __len__(self) -> int:
        return -(-len(self._places) // self.batch_rows)

    @property
    def _places(self) -> range:
        """Places in ``users`` of this process's part."""
        return range(self.share.rank, len(self.users), self.share.world)

    def __getitem__(self, step: int) -> Batch:
        if step >= len(self):
            raise IndexError(step)
        part = self._places[step * self.batch_rows : (step + 1) * self.batch_rows]
        user = self.users[np.arange(part.start, part.stop, part.step)]
        first = self.data.offsets[user]
        end = first + self.data.targets_at(self.stage)[user] if self.stage else self.data.offsets[user + 1]
        start = np.maximum(first, end - self.max_length)
        lengths = end - start
        targets = self.data.items[end] if self.stage else np.zeros(0, dtype=np.int64)
        batch = Batch(
            users=_tensor(user),
            items=_tensor(self.data.items[ragged_index(start, lengths)]),
            offsets=_tensor(offsets_of(lengths)),
            lengths=tuple(lengths.tolist()),
            targets=_tensor(targets),
            row_keys=_tensor(user),
            key=0,
            step_key=0,
            global_targets=len(user),
            seen=_sets(self.data, first, end) if self.with_seen else None,
        )
        self._residency.touched(len(user))
        return batch


class UsersWithTarget:
    """All users with a target at a stage and an event before it, in order; found when they are asked for.

    Parameters
    ----------
    data
        The sequences.
    stage
        ``valid`` or ``test``.
    most
        So many of them alone, drawn at random and the same in every run; None for all.
    """

    def __init__(self, data: Sequences, stage: str, most: int | None = None) -> None:
        at = data.targets_at(stage)
        self._owners = Owners(lambda users: (at[users] >= 1).astype(np.int64), data.n_users)
        self._drawn = None
        if most is not None and most < len(self._owners):
            self._drawn = np.sort(order_of(key_of(_USERS), len(self._owners))[:most])

    def __len__(self) -> int:
        return len(self._owners) if self._drawn is None else len(self._drawn)

    def __getitem__(self, places: Ints) -> Ints:
        """The users at these places, [n] -> [n]."""
        return self._owners.of(places if self._drawn is None else self._drawn[places])[0]


def _residency(data: Sequences) -> Residency:
    return Residency([data.items, data.offsets, data.train_end, data.valid_at, data.test_at])


def _sets(data: Sequences, first: Ints, end: Ints) -> SeenSets:
    items, offsets = data.distinct_items(first, end)
    return SeenSets(_tensor(items), _tensor(offsets))


class _Loader(DataLoader[Batch]):
    """Batches whose workers outlive a signal to the run: it stops at a batch of its own choice."""

    def __iter__(self) -> Any:
        if self.num_workers == 0:
            return super().__iter__()
        with held_back():
            return super().__iter__()


def train_loader(batches: TrainBatches, num_workers: int, epoch: int = 0) -> DataLoader[Batch]:
    """Batches of one epoch in order, from ``epoch`` on; the same with any number of workers."""
    return _Loader(
        batches,
        batch_size=None,
        sampler=EpochSteps(len(batches), epoch),
        num_workers=num_workers,
        # Spawned, not forked: torch's threads do not survive a fork.
        multiprocessing_context="spawn" if num_workers else None,
        persistent_workers=num_workers > 0,
        worker_init_fn=partial(leave_to_parent, os.getpid()),
    )


def rank_loader(batches: RankBatches) -> DataLoader[Batch]:
    """Ranking batches in order."""
    return DataLoader(batches, batch_size=None, shuffle=False)
