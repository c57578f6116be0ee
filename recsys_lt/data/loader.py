"""Training batches (shuffled by epoch, shared by ranks) and ranking batches, made of row numbers alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.data.ragged import Ints, offsets_of, ragged_index
from recsys_lt.data.rows import Rows
from recsys_lt.data.sequences import Sequences
from recsys_lt.streams import key_of

# First parts of the keys of streams, so that order, rows and steps never share one.
_ORDER, _ROWS, _STEP = 1, 2, 3


def _tensor(array: NDArray[np.integer]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))


@dataclass(frozen=True)
class Share:
    """Which part of every batch this process takes: rank of world."""

    rank: int = 0
    world: int = 1


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
    ) -> None:
        self.data, self.rows, self.batch_rows, self.seed = data, rows, batch_rows, seed
        self.share, self.with_seen, self.accumulate = share, with_seen, accumulate
        self._order: tuple[int, Ints] | None = None

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_rows)

    def order(self, epoch: int) -> Ints:
        """The rows in this epoch's order, [R] int64."""
        if self._order is None or self._order[0] != epoch:
            key = key_of(_ORDER, self.seed, epoch) & ((1 << 64) - 1)
            generator = np.random.Generator(np.random.Philox(key=key))
            self._order = (epoch, generator.permutation(len(self.rows)))
        return self._order[1]

    def __getitem__(self, index: tuple[int, int]) -> Batch:
        epoch, step = index
        whole = self.order(epoch)[step * self.batch_rows : (step + 1) * self.batch_rows]
        rows = whole[self.share.rank :: self.share.world]
        start, stop, user = self.rows.start[rows], self.rows.stop[rows], self.rows.user[rows]
        lengths = stop - start
        index_of = ragged_index(start, lengths)
        places = self._supervised(rows, lengths)
        targets = self.data.items[stop if not self.rows.every_position else index_of + 1]
        return Batch(
            users=_tensor(user),
            items=_tensor(self.data.items[index_of]),
            offsets=_tensor(offsets_of(lengths)),
            lengths=tuple(lengths.tolist()),
            targets=_tensor(targets if places is None else targets[places]),
            row_keys=_tensor(rows),
            key=key_of(_ROWS, self.seed, epoch),
            step_key=key_of(_STEP, self.seed, epoch, step),
            global_targets=self.rows.n_targets(whole),
            seen=_gather_sets(*self.data.train_sets, user) if self.with_seen else None,
            step_targets=self.rows.n_targets(self._of_step(epoch, step)) if self.accumulate > 1 else None,
            target_events=None if places is None else _tensor(places),
        )

    def _of_step(self, epoch: int, step: int) -> Ints:
        """All rows whose gradients make one step together with this batch's."""
        first = step - step % self.accumulate
        return self.order(epoch)[first * self.batch_rows : (first + self.accumulate) * self.batch_rows]

    def _supervised(self, rows: Ints, lengths: Ints) -> Ints | None:
        """Which of the batch's events are followed by a target; None where one is for each event or each row."""
        if self.rows.ends is None:
            return None
        at_end = np.zeros(int(lengths.sum()), dtype=np.bool_)
        at_end[lengths.cumsum() - 1] = True
        return np.flatnonzero(at_end | ~np.repeat(self.rows.ends[rows], lengths))


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
        Whose targets to rank, [n] int64.
    stage
        ``valid`` or ``test``: which target; or None to read whole histories without a target (to recommend).
    max_length
        Latest events read of a history.
    batch_rows
        Users a batch.
    with_seen
        Whether batches carry each user's distinct earlier items, to be masked.
    """

    def __init__(
        self,
        data: Sequences,
        users: Ints,
        stage: str | None,
        max_length: int,
        batch_rows: int,
        with_seen: bool,
    ) -> None:
        self.data, self.users, self.max_length = data, users, max_length
        self.batch_rows, self.with_seen, self.stage = batch_rows, with_seen, stage
        self._end = data.offsets[users] + data.targets_at(stage)[users] if stage else data.offsets[users + 1]

    def __len__(self) -> int:
        return -(-len(self.users) // self.batch_rows)

    def __getitem__(self, step: int) -> Batch:
        if step >= len(self):
            raise IndexError(step)
        part = slice(step * self.batch_rows, (step + 1) * self.batch_rows)
        user, end = self.users[part], self._end[part]
        first = self.data.offsets[user]
        start = np.maximum(first, end - self.max_length)
        lengths = end - start
        targets = self.data.items[end] if self.stage else np.zeros(0, dtype=np.int64)
        return Batch(
            users=_tensor(user),
            items=_tensor(self.data.items[ragged_index(start, lengths)]),
            offsets=_tensor(offsets_of(lengths)),
            lengths=tuple(lengths.tolist()),
            targets=_tensor(targets),
            row_keys=_tensor(user),
            key=0,
            step_key=0,
            global_targets=len(user),
            seen=self._earlier(first, end) if self.with_seen else None,
        )

    def _earlier(self, first: Ints, end: Ints) -> SeenSets:
        """Distinct items before each target."""
        lengths = end - first
        row = np.repeat(np.arange(len(first)), lengths)
        pairs = np.unique(row * self.data.n_items + self.data.items[ragged_index(first, lengths)])
        sizes = np.bincount(pairs // self.data.n_items, minlength=len(first))
        return SeenSets(_tensor(pairs % self.data.n_items), _tensor(offsets_of(sizes)))


def _gather_sets(items: Ints, offsets: Ints, users: Ints) -> SeenSets:
    lengths = offsets[users + 1] - offsets[users]
    return SeenSets(_tensor(items[ragged_index(offsets[users], lengths)]), _tensor(offsets_of(lengths)))


def train_loader(batches: TrainBatches, num_workers: int, epoch: int = 0) -> DataLoader[Batch]:
    """Batches of one epoch in order, from ``epoch`` on; the same with any number of workers."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=EpochSteps(len(batches), epoch),
        num_workers=num_workers,
        # Spawned, not forked: torch's threads do not survive a fork.
        multiprocessing_context="spawn" if num_workers else None,
        persistent_workers=num_workers > 0,
    )


def rank_loader(batches: RankBatches) -> DataLoader[Batch]:
    """Ranking batches in order."""
    return DataLoader(batches, batch_size=None, shuffle=False)
