"""Masked-item prediction: items hidden at random are predicted from those before and after (BERT4Rec)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_lt.data.arrays import Ints, offsets_of, ragged_index
from recsys_lt.data.batch import Batch
from recsys_lt.data.sequences import Sequences
from recsys_lt.data.streams import key_of, keys_of, uniform
from recsys_lt.data.tasks.task import UserTask, packed, streams_of, tensor_of
from recsys_lt.errors import UserError

# They set these draws apart from dropout's and the negatives'.
_EVENTS, _ROWS = key_of(9), key_of(10)


@dataclass(frozen=True)
class MaskedItems(UserTask):
    """One example a user: the last ``max_length`` training items, some masked; each masked item is a target.

    Each item is masked with ``probability``, in (0, 1); with probability ``last_only``, in [0, 1], the last item alone
    is, as when ranking. A masked event holds ``n_items``, the number after the last item. At least one item of an
    example is masked. The masks are drawn anew in every epoch. Raises UserError if a probability is outside its range.
    Source: Sun et al., CIKM 2019.
    """

    max_length: int
    probability: float = 0.2
    last_only: float = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.probability < 1 and 0 <= self.last_only <= 1):
            what = f"items are masked with probability {self.probability}, and the last alone with {self.last_only}"
            raise UserError(what, where="model", remedy="Give mask_probability in (0, 1) and mask_last in [0, 1]")

    def batch(self, data: Sequences, numbers: Ints, stream: int) -> Batch:
        user, _ = self.located(data, numbers)
        first = np.asarray(data.offsets)[user]
        stop = first + np.asarray(data.train_end)[user]
        start = np.maximum(first, stop - self.max_length)
        lengths = stop - start
        items = np.asarray(data.items)[ragged_index(start, lengths)].astype(np.int64)
        streams = streams_of(stream, numbers)
        events = np.flatnonzero(self._masked(streams, lengths))
        targets = items[events]
        items[events] = data.n_items
        return packed(user, items, lengths, targets, streams, events)

    def _masked(self, streams: Tensor, lengths: Ints) -> NDArray[np.bool_]:
        """Which events are masked, [T] bool."""
        row = np.repeat(np.arange(len(lengths)), lengths)
        starts = offsets_of(lengths)[:-1]
        place = np.arange(len(row)) - starts[row]
        draw = uniform(keys_of(_EVENTS, streams[torch.from_numpy(row)] + tensor_of(place))).numpy()
        # The smallest draw of an example is masked in any case.
        chosen = (draw < self.probability) | (draw == np.minimum.reduceat(draw, starts)[row])
        last_only = uniform(keys_of(_ROWS, streams)).numpy() < self.last_only
        return np.where(last_only[row], place == lengths[row] - 1, chosen)
