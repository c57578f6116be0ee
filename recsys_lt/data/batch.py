"""A packed batch: only real events, no padding."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from recsys_lt.data.streams import keys_of


@dataclass(frozen=True)
class SeenSets:
    """Ragged sets of items, ascending and distinct within a row: items [S], offsets [B + 1] (int64)."""

    items: Tensor
    offsets: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "SeenSets":
        return SeenSets(
            self.items.to(device, non_blocking=non_blocking), self.offsets.to(device, non_blocking=non_blocking)
        )

    def rows(self) -> Tensor:
        """The row of each item, [S]."""
        return torch.repeat_interleave(self.offsets.diff(), output_size=len(self.items))

    def without(self, targets: Tensor) -> "SeenSets":
        """The sets without each row's target [B]."""
        row = self.rows()
        other = self.items != targets[row]
        lengths = torch.zeros_like(targets).index_add_(0, row, other.long())
        return SeenSets(self.items[other], torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))


@dataclass(frozen=True)
class Batch:
    """B users' histories, laid end to end, and the N targets they are supervised by.

    Parameters
    ----------
    users
        User ids, [B] int64.
    items
        The histories' item ids, oldest first, row after row, [T] int64; I, the number after the last item, where an
        item is masked.
    offsets
        Row b's history is ``items[offsets[b]:offsets[b + 1]]``, [B + 1] int64.
    lengths
        History lengths on the host (a tuple, so that no code waits for a device to learn a shape), B ints.
    targets
        Target items, [N] int64; none when recommending.
    streams
        Random stream of each row, [B] int64: dropout, negatives and masks are drawn from it. A row has the same in any
        batch and on any rank.
    target_events
        The event each target is predicted at, [N] int64, ascending: the event before it, or its masked place. None
        where each row has one target, after its last event (N = B).
    step_key
        Key of the (seed, epoch, step), for draws shared by all rows of a batch; the same on every rank.
    global_targets
        Targets of the batch over all ranks, for means; 0 when ranking.
    step_targets
        Targets of all batches whose gradients make one step; None where every batch is a step of its own.
    times
        When each event happened, in whole seconds, [T] int64; None where the source does not say, or nobody asked.
    seen
        Each row's items that may not be drawn as negatives or (ranking) recommended; None where they are not needed.
    """

    users: Tensor
    items: Tensor
    offsets: Tensor
    lengths: tuple[int, ...]
    targets: Tensor
    streams: Tensor
    target_events: Tensor | None = None
    step_key: int = 0
    global_targets: int = 0
    step_targets: int | None = None
    times: Tensor | None = None
    seen: SeenSets | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def rows_of_events(self) -> Tensor:
        """The row of each event, [T] int64."""
        return self._rows_of_events

    @cached_property
    def _rows_of_events(self) -> Tensor:
        return torch.repeat_interleave(self.offsets.diff(), output_size=len(self.items))

    def rows_of_targets(self) -> Tensor:
        """The row of each target, [N] int64."""
        if self.target_events is None:
            return torch.arange(len(self), device=self.items.device)
        return self.rows_of_events()[self.target_events]

    def event_streams(self) -> Tensor:
        """The random stream of each event, [T] int64; an event is its row and its place in the row."""
        rows = self.rows_of_events()
        place = torch.arange(len(self.items), device=self.items.device) - self.offsets[rows]
        return keys_of(0, self.streams[rows] + place)

    def target_streams(self, key: int) -> Tensor:
        """A random stream of each target, [N] int64; ``key`` sets its use apart from others."""
        rows = self.rows_of_targets()
        place = 0 if self.target_events is None else self.target_events - self.offsets[rows]
        return keys_of(key, self.streams[rows] + place)

    def masked(self, mask_seen: str) -> SeenSets | None:
        """Items that are not ranked for the rows, by ``metrics.mask_seen``; None where no seen items are carried."""
        if self.seen is None or mask_seen != "keep_target" or len(self.targets) == 0:
            return self.seen
        return self.seen.without(self.targets)

    def latest(self, most: int) -> "Batch":
        """The same with the last ``most`` events of each history alone; for ranking, whose targets are the rows'."""
        if max(self.lengths, default=0) <= most:
            return self
        lengths = tuple(min(length, most) for length in self.lengths)
        offsets = torch.tensor([0, *lengths], device=self.items.device).cumsum(0)
        rows = self.rows_of_events()
        kept = torch.arange(len(rows), device=rows.device) >= (self.offsets[1:] - offsets.diff())[rows]
        times = None if self.times is None else self.times[kept]
        return replace(self, items=self.items[kept], offsets=offsets, lengths=lengths, times=times)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        parts = {one.name: getattr(self, one.name) for one in fields(self)}
        moved: dict[str, Any] = {
            name: part.to(device, non_blocking=non_blocking)
            for name, part in parts.items()
            if isinstance(part, Tensor | SeenSets)
        }
        return replace(self, **moved)
