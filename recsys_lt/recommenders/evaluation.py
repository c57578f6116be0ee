"""Ranks of an evaluation's targets, joined over batches and processes, and the exposure of items."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch.distributed as dist
from torch import Tensor

from recsys_lt.data.arrays import Ints
from recsys_lt.metrics.exposure import Exposure
from recsys_lt.recommenders.full_ranking import Ranking


@dataclass(frozen=True)
class Evaluation:
    """Ranks of n users' targets."""

    users: Ints  # [n] int64, in rising order; targets and ranks in the same
    targets: Ints
    ranks: Ints  # as ``Ranking.target_rank``
    exposure: Exposure | None = None  # how often each item was recommended; None where no lists were made
    depth: int | None = None  # see ``Ranking.depth``
    parts: Mapping[str, "Evaluation"] = field(default_factory=dict)  # of the rankings that this one was made from
    #: how many of a retriever's first items were re-ranked; None where there is no retriever
    candidates: int | None = None


class Collector:
    """Takes a batch's ranking after the other; ``finish`` joins the processes' parts.

    Exposure is counted in lists of the lengths ``ks``; for ``candidates`` see ``Evaluation``.
    """

    def __init__(self, n_items: int, ks: tuple[int, ...], candidates: int | None = None) -> None:
        self._candidates = candidates
        self._exposure = Exposure(n_items, ks) if ks else None
        self._columns: dict[str, list[Ints]] = {"users": [], "targets": [], "": []}
        self._depths: dict[str, int | None] = {}

    def add(self, users: Tensor, targets: Tensor, ranking: Ranking) -> None:
        """Take a batch: users and targets [B], and how they are ranked."""
        ranks = {"": ranking} | dict(ranking.parts)
        self._depths = {name: one.depth for name, one in ranks.items()}
        columns = {"users": users, "targets": targets} | {name: one.target_rank for name, one in ranks.items()}
        for name, column in columns.items():
            self._columns.setdefault(name, []).append(column.cpu().numpy())
        if self._exposure is not None:
            self._exposure.update(ranking.items.cpu().numpy())

    def finish(self) -> Evaluation:
        """Join all processes' parts; the same on every one of them."""
        nothing = np.zeros(0, dtype=np.int64)
        mine = {name: np.concatenate([nothing, *column]) for name, column in self._columns.items()}
        exposure, depths = self._exposure, self._depths
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            found: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(found, (mine, depths, None if exposure is None else exposure.counts))
            names = {name: None for columns, _, _ in found for name in columns}  # without users, none of the parts
            mine = {name: np.concatenate([columns.get(name, nothing) for columns, _, _ in found]) for name in names}
            depths = {name: depth for _, each, _ in found for name, depth in each.items()}
            if exposure is not None:
                exposure.counts[:] = np.sum([counts for _, _, counts in found], axis=0)
        order = np.argsort(mine["users"], kind="stable")
        users, targets, ranks = (mine.pop(name)[order] for name in ("users", "targets", ""))
        parts = {name: Evaluation(users, targets, part[order], depth=depths.get(name)) for name, part in mine.items()}
        return Evaluation(users, targets, ranks, exposure, depths.get(""), parts, self._candidates)
