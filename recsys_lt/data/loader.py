"""Training batches, shuffled by epoch and shared by ranks, and ranking batches."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from recsys_lt.data.arrays import PIECE, Ints, offsets_of, pieces, ragged_index
from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.data.sequences import Sequences
from recsys_lt.data.streams import Order, key_of, order_of
from recsys_lt.data.tasks.task import Task, packed, streams_of, tensor_of
from recsys_lt.system.stopping import held_back, leave_to_parent

# First parts of the keys of streams, so that order, rows and steps never share one.
_ORDER, _ROWS, _STEP = 1, 2, 3
_USERS = 8


@dataclass(frozen=True)
class Share:
    """Which part of every batch this process takes: rank of world."""

    rank: int = 0
    world: int = 1


@dataclass(eq=False)
class TrainBatches(Dataset[Batch]):
    """Training batches: batch (epoch, step) is a pure function of those two numbers.

    A batch has ``batch_rows`` examples over all ranks; the ranks' parts (``share``) of a step together are the single
    process's batch. ``with_seen`` has batches carry each row's training items (losses with unseen negatives). The
    gradients of ``accumulate`` batches make one step. An epoch has ``n_rows`` of the task's ``n_examples`` examples:
    the first ``max_rows`` of its order, or all.
    """

    data: Sequences
    task: Task
    batch_rows: int
    seed: int
    share: Share
    with_seen: bool
    accumulate: int = 1
    max_rows: int | None = None

    def __post_init__(self) -> None:
        self.n_examples = self.task.n_examples(self.data)
        self.n_rows = self.n_examples if self.max_rows is None else min(self.max_rows, self.n_examples)

    def __len__(self) -> int:
        return -(-self.n_rows // self.batch_rows)

    def order(self, epoch: int) -> Order:
        """The examples in this epoch's order: a slice of it is [n] int64."""
        return order_of(key_of(_ORDER, self.seed, epoch), self.n_examples)

    @property
    def n_targets(self) -> int:
        """Targets of the first epoch, over all ranks."""
        stream, order = self._stream(0), self.order(0)
        return sum(self.task.n_targets(self.data, order[piece], stream) for piece in pieces(self.n_rows, PIECE // 16))

    def __getitem__(self, index: tuple[int, int]) -> Batch:
        epoch, step = index
        stream = self._stream(epoch)
        numbers = self._numbers(epoch, step, 1)
        batch = self.task.batch(self.data, numbers[self.share.rank :: self.share.world], stream)
        alone = self.share.world == 1
        user = batch.users.numpy()
        begin = np.asarray(self.data.offsets)[user]
        first = step - step % self.accumulate
        return replace(
            batch,
            step_key=key_of(_STEP, self.seed, epoch, step),
            global_targets=len(batch.targets) if alone else self.task.n_targets(self.data, numbers, stream),
            step_targets=None
            if self.accumulate == 1
            else self.task.n_targets(self.data, self._numbers(epoch, first, self.accumulate), stream),
            seen=_seen(self.data, begin, begin + np.asarray(self.data.train_end)[user]) if self.with_seen else None,
        )

    def _stream(self, epoch: int) -> int:
        return key_of(_ROWS, self.seed, epoch)

    def _numbers(self, epoch: int, step: int, n_steps: int) -> Ints:
        """Examples of so many steps from ``step`` on, over all ranks."""
        end = min((step + n_steps) * self.batch_rows, self.n_rows)
        return self.order(epoch)[step * self.batch_rows : end]


@dataclass(eq=False)
class EpochSteps(Sampler[tuple[int, int]]):
    """The (epoch, step) pairs of the epoch set last; Lightning calls ``set_epoch``.

    ``epoch`` is the first one asked for: workers fetch ahead before Lightning says which epoch a resumed run is at.
    """

    n_steps: int
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, step) for step in range(self.n_steps))

    def __len__(self) -> int:
        return self.n_steps


@dataclass(eq=False)
class RankBatches(Dataset[Batch]):
    """Batches of users to rank the catalogue for, with their target.

    ``users`` [n] are read up to the target of ``stage`` (``valid`` or ``test``; None: whole histories without a target,
    to recommend), their latest ``max_length`` events alone. A batch has ``batch_rows`` users; ``share`` is this
    process's part of them. ``with_seen`` has batches carry each user's distinct earlier items, to be masked.
    """

    data: Sequences
    users: Ints
    stage: str | None
    max_length: int
    batch_rows: int
    with_seen: bool
    share: Share = field(default_factory=Share)

    def __post_init__(self) -> None:
        self.users = self.users[self.share.rank :: self.share.world]

    def __len__(self) -> int:
        return -(-len(self.users) // self.batch_rows)

    def __getitem__(self, step: int) -> Batch:
        if step >= len(self):
            raise IndexError(step)
        user = self.users[step * self.batch_rows : (step + 1) * self.batch_rows]
        first = self.data.offsets[user]
        end = first + self.data.targets_at(self.stage)[user] if self.stage else self.data.offsets[user + 1]
        start = np.maximum(first, end - self.max_length)
        lengths = end - start
        targets = self.data.items[end] if self.stage else np.zeros(0, dtype=np.int64)
        index = ragged_index(start, lengths)
        times = None if self.data.times is None else self.data.times[index]
        batch = packed(user, self.data.items[index], lengths, targets, streams_of(0, user), times=times)
        return replace(batch, seen=_seen(self.data, first, end)) if self.with_seen else batch


def users_with_target(data: Sequences, stage: str, most: int | None = None) -> Ints:
    """Users with a target at a stage (``valid`` or ``test``) and an event before it, in order, [n] int64.

    Of more than ``most`` of them so many are drawn at random, the same in every run; None keeps all.
    """
    users = np.flatnonzero(np.asarray(data.targets_at(stage)) >= 1)
    if most is None or most >= len(users):
        return users
    return users[np.sort(order_of(key_of(_USERS), len(users))[:most])]


def _seen(data: Sequences, first: Ints, end: Ints) -> SeenSets:
    """The distinct items of each row's events ``[first, end)`` [B]."""
    lengths = end - first
    row = np.repeat(np.arange(len(first)), lengths)
    pairs = np.sort(row * data.n_items + np.asarray(data.items)[ragged_index(first, lengths)])
    # As numpy.unique, which takes four times as long.
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    offsets = offsets_of(np.bincount(pairs // data.n_items, minlength=len(first)))
    return SeenSets(tensor_of(pairs % data.n_items), tensor_of(offsets))


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
