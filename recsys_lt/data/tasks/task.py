"""What a training example is: its input, its targets, and the events the targets belong to."""

from abc import ABC, abstractmethod
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_lt.data.arrays import Ints, offsets_of
from recsys_lt.data.batch import Batch
from recsys_lt.data.sequences import Sequences
from recsys_lt.data.streams import keys_of


class Task(ABC):
    """Training examples of a dataset, numbered from 0.

    A subclass is a frozen dataclass of plain settings. It holds no data and no state, so that any process can form any
    batch. The loader shuffles the numbers, deals them to processes and adds what belongs to the step.
    """

    @abstractmethod
    def n_examples(self, data: Sequences) -> int:
        """Number of examples."""

    @abstractmethod
    def batch(self, data: Sequences, numbers: Ints, stream: int) -> Batch:
        """Batch whose rows are the given examples; a pure function of its arguments.

        Parameters
        ----------
        data
            The sequences. Only the first ``train_end`` events of each user may be read.
        numbers
            Examples, [B] of 0..n_examples-1; none where a process has no part of a small last batch.
        stream
            Key of the epoch's random numbers. Example n draws from ``keys_of(stream, n)``, so that its draws do not
            depend on the batch it is in.

        Returns
        -------
        Batch
            See ``packed``. Its ``step_key``, ``global_targets``, ``step_targets`` and ``seen`` are the loader's.
        """

    def n_targets(self, data: Sequences, numbers: Ints, stream: int) -> int:
        """Number of targets of the given examples, for means over several batches.

        Parameters and purity as in ``batch``. A task whose targets are cheaper to count than to form overrides it.
        """
        return len(self.batch(data, numbers, stream).targets)


class UserTask(Task):
    """A task whose examples are numbered user after user, some number for each."""

    def count(self, train_end: Ints) -> Ints:
        """Examples of users with so many training events, [n] -> [n]: one of each who has two."""
        return (train_end >= 2).astype(np.int64)

    def n_examples(self, data: Sequences) -> int:
        return int(_examples_before(self, data)[-1])

    def located(self, data: Sequences, numbers: Ints) -> tuple[Ints, Ints]:
        """User of each example, and which of the user's examples it is (from 0): [B] -> [B], [B]."""
        before = _examples_before(self, data)
        user = np.searchsorted(before, numbers, side="right") - 1
        return user, numbers - before[user]


@lru_cache(maxsize=4)
def _examples_before(task: UserTask, data: Sequences) -> Ints:
    """Examples of all users before each, [U + 1]."""
    return offsets_of(task.count(np.asarray(data.train_end)))


def packed(
    user: Ints,
    items: NDArray[np.integer],
    lengths: Ints,
    targets: NDArray[np.integer],
    streams: Tensor,
    target_events: Ints | None = None,
    times: NDArray[np.floating] | None = None,
) -> Batch:
    """Batch made of arrays: rows' users [B], their inputs end to end [T], lengths [B], targets [N]; see ``Batch``."""
    return Batch(
        users=tensor_of(user),
        items=tensor_of(items),
        offsets=tensor_of(offsets_of(lengths)),
        lengths=tuple(lengths.tolist()),
        targets=tensor_of(targets),
        streams=streams,
        target_events=None if target_events is None else tensor_of(target_events),
        times=None if times is None else tensor_of(times),
    )


def streams_of(stream: int, numbers: Ints) -> Tensor:
    """Random stream of each example, [B] int64."""
    return keys_of(stream, tensor_of(numbers))


def tensor_of(array: NDArray[np.integer | np.floating]) -> Tensor:
    """The same numbers as an int64 tensor, without fractions."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
