"""What one evaluation found, gathered over processes: each user's rank once, and what was recommended."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from recsys_lt.data.ragged import Ints
from recsys_lt.metrics.exposure import Exposure


@dataclass(frozen=True)
class Evaluation:
    """Ranks of n users' targets.

    Parameters
    ----------
    users, targets, ranks
        [n] int64, in the order of ``users``.
    exposure
        Counts of what was recommended to them; None where no lists were made.
    retrieved
        Ranks of the targets by a first stage alone, [n] int64; None where there is none.
    n_candidates
        How many of its first items are put in a new order; None where there is no first stage.
    """

    users: Ints
    targets: Ints
    ranks: Ints
    exposure: Exposure | None
    retrieved: Ints | None = None
    n_candidates: int | None = None


class Collector:
    """Takes batches of ranks and lists; ``finish`` joins the processes' parts.

    Parameters
    ----------
    n_items
        Size of the catalogue.
    ks
        List lengths to count exposure at; empty for none.
    n_candidates
        See ``Evaluation``.
    """

    def __init__(self, n_items: int, ks: tuple[int, ...], n_candidates: int | None = None) -> None:
        self._n_candidates = n_candidates
        self._parts: list[Tensor] = []
        self._exposure = Exposure(n_items, ks) if ks else None

    def add(
        self, users: Tensor, targets: Tensor, ranks: Tensor, top_items: Tensor, retrieved: Tensor | None = None
    ) -> None:
        # No rank is 0: where there is no first stage, all of these are.
        first = torch.zeros_like(ranks) if retrieved is None else retrieved
        self._parts.append(torch.stack([users, targets, ranks, first]).cpu())
        if self._exposure is not None:
            self._exposure.update(top_items.cpu().numpy())

    def finish(self) -> Evaluation:
        """Join all processes' parts; the same on every one of them."""
        mine = torch.cat(self._parts, 1).numpy() if self._parts else np.zeros((4, 0), dtype=np.int64)
        exposure = self._exposure
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            world = dist.get_world_size()
            parts: list[object] = [None] * world
            dist.all_gather_object(parts, (mine, None if exposure is None else exposure.counts))
            mine = np.concatenate([part[0] for part in parts], 1)  # type: ignore[index]
            if exposure is not None:
                exposure.counts[:] = np.sum([part[1] for part in parts], axis=0)  # type: ignore[index]
        order = np.argsort(mine[0], kind="stable")
        users, targets, ranks, retrieved = mine[:, order]
        return Evaluation(users, targets, ranks, exposure, retrieved if retrieved.any() else None, self._n_candidates)
