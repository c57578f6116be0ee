"""A packed batch: only real events, no padding."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class SeenSets:
    """Ragged sets of items, ascending and distinct within a row: items [S], offsets [B + 1] (int64)."""

    items: Tensor
    offsets: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "SeenSets":
        return SeenSets(
            self.items.to(device, non_blocking=non_blocking),
            self.offsets.to(device, non_blocking=non_blocking),
        )


@dataclass(frozen=True)
class Batch:
    """B users' histories, laid end to end, and the N targets they are supervised by.

    Parameters
    ----------
    users
        User ids, [B] int64.
    items
        The histories' item ids, oldest first, row after row, [T] int64.
    offsets
        Row b's history is ``items[offsets[b]:offsets[b + 1]]``, [B + 1] int64.
    lengths
        History lengths on the host (a tuple, so that no code waits for a device to learn a shape), B ints.
    targets
        Target items, [N] int64: one for each event of ``items`` (N = T, next to it) where the backbone
        learns from every position, one for each row (N = B) where it learns from prefixes and when ranking, and
        of some events only where ``target_events`` says of which.
    row_keys
        A number that names each row in the random streams, [B] int64; the same in any batch and on any rank.
    key
        Key of the (seed, epoch) the batch is drawn in: the streams of dropout and of negatives start from it.
    step_key
        Key of the (seed, epoch, step), for draws shared by the whole batch; the same on every rank.
    global_targets
        Targets in the whole batch over all ranks: what a mean is over.
    seen
        Each row's items that may not be drawn as negatives or (ranking) recommended; None where nobody asks.
    step_targets
        Targets of all batches whose gradients make one step; None where every batch is a step of its own.
    target_events
        The event each target comes after, [N] int64, ascending, where neither every event nor every row has one target.
    """

    users: Tensor
    items: Tensor
    offsets: Tensor
    lengths: tuple[int, ...]
    targets: Tensor
    row_keys: Tensor
    key: int
    step_key: int
    global_targets: int
    seen: SeenSets | None = None
    step_targets: int | None = None
    target_events: Tensor | None = None

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
        if self.target_events is not None:
            return self.rows_of_events()[self.target_events]
        if len(self.targets) == len(self.items):
            return self.rows_of_events()
        return torch.arange(len(self), device=self.items.device)

    def latest(self, most: int) -> "Batch":
        """The same with the last ``most`` events of each history alone; for ranking, whose targets are the rows'."""
        if max(self.lengths, default=0) <= most:
            return self
        lengths = tuple(min(length, most) for length in self.lengths)
        offsets = torch.tensor([0, *lengths], device=self.items.device).cumsum(0)
        rows = self.rows_of_events()
        kept = torch.arange(len(rows), device=rows.device) >= (self.offsets[1:] - offsets.diff())[rows]
        return replace(self, items=self.items[kept], offsets=offsets, lengths=lengths)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        moved = {
            name: getattr(self, name).to(device, non_blocking=non_blocking)
            for name in ("users", "items", "offsets", "targets", "row_keys")
        }
        seen = None if self.seen is None else self.seen.to(device, non_blocking)
        places = self.target_events
        if places is not None:
            places = places.to(device, non_blocking=non_blocking)
        return replace(self, **moved, seen=seen, target_events=places)
