"""Full ranking of the catalogue in blocks of scores, and its collection over the batches of an evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from recsys_lt.data.arrays import Ints
from recsys_lt.data.batch import SeenSets
from recsys_lt.errors import UserError
from recsys_lt.losses.output_table import Scorer
from recsys_lt.metrics.all_metrics import Exposure, expose

# Scores held at a time: 16 MB on a CPU. Less than 2 ** 24, up to which float32 counts exactly.
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Ranking:
    """How a recommender ranks the catalogue for B users."""

    target_rank: Tensor  # 1-based, [B] int64; 0 (``metrics.ranking.UNLISTED``) if not listed; empty without targets
    items: Tensor  # the first k, best first, [B, k] int64; -1 past the end of a list
    scores: Tensor  # what the items are ordered by, [B, k]; minus infinity where the model gives none
    #: most items that are ranked, where lists end (a beam): metrics at larger k are not measured
    depth: int | None = None
    #: other rankings of the same users: the ``retriever``'s, which this one is made from; ``unmasked``, with seen items
    parts: Mapping[str, "Ranking"] = field(default_factory=dict)
    #: what else is measured of each user, by name, [B] floats; nan where it is not. A metric is the mean over users
    measured: Mapping[str, Tensor] = field(default_factory=dict)

    def check(self, n_rows: int, n_targets: int, k: int, source: str) -> None:
        """Raise UserError for tensors of other shapes than a ranking of ``n_rows`` users has."""
        for name, found, shape in (
            ("target_rank", self.target_rank, (n_targets,)),
            ("items", self.items, (n_rows, k)),
            ("scores", self.scores, (n_rows, k)),
        ):
            if tuple(found.shape) != shape:
                what = f"{source}.rank gave {name} of shape {list(found.shape)}, not {list(shape)}"
                remedy = f"Return a Ranking of {n_rows} users with lists of k = {k}, -1 past a list's end"
                raise UserError(what, where="model", remedy=remedy)


class ScoreMatrix(NamedTuple):
    """The scorer of states that are the scores themselves, [B, I]."""

    n_items: int

    def block(self, states: Tensor, start: int, stop: int) -> Tensor:
        return states[:, start:stop].clone()

    def lower_bounds(self, states: Tensor, items: Tensor) -> Tensor:
        """See ``Scorer.lower_bounds``: exact."""
        return states.gather(1, items.unsqueeze(1)).squeeze(1)


def rank_by_scores(states: Tensor, scorer: Scorer, targets: Tensor, masked: SeenSets | None, k: int) -> Ranking:
    """Rank of each target over the whole catalogue, and the first k items.

    Ties count against the target: its rank is the number of items, itself included, that score at least as
    high, to within the rounding of a dot product; a score that is not a number counts as higher. A model that
    gives every item one score thus ranks every target last.

    Parameters
    ----------
    states, scorer
        [B, ...], and what makes the scores of the I items of them.
    targets
        [B], or empty when only lists are wanted.
    masked
        Items that cannot be recommended, by row. A target among them is ranked I. The targets' ranks among all items,
        these included, are those of the part ``unmasked``, which has no lists.
    k
        Length of the lists, whose ties are by item id; 0 for none.
    """
    n_rows, n_items = len(states), scorer.n_items
    ranks = torch.zeros(len(targets), dtype=torch.int64, device=states.device)
    least = scorer.lower_bounds(states, targets).unsqueeze(1) if len(targets) else None
    seen = SeenSets(targets.new_zeros(0), targets.new_zeros(n_rows + 1)) if masked is None else masked
    unmasked = torch.zeros_like(ranks)
    row, item = seen.rows(), seen.items
    values, items = states.new_full((n_rows, k), -torch.inf), targets.new_full((n_rows, k), -1)
    width = max(1, min(n_items, _BLOCK // max(n_rows, 1)))
    for start in range(0, n_items, width):
        stop = min(start + width, n_items)
        scores = scorer.block(states, start, stop)
        inside = (item >= start) & (item < stop)
        rows, places = row[inside], item[inside] - start
        if least is not None:
            above = ~scores[rows, places].lt(least[rows, 0])
            unmasked.index_add_(0, rows, above.long())
        scores[rows, places] = -torch.inf
        if k:
            values, items = _merge(values, items, scores, start, k)
        if least is not None:
            # Zeros and ones in place of the scores: sums of booleans take five times the product's time.
            counted = torch.promote_types(scores.dtype, torch.float32)
            ranks += (stop - start) - scores.lt_(least).sum(1, dtype=counted).long()
    nothing = values.new_zeros(n_rows, 0)
    parts = (
        {} if masked is None else {"unmasked": Ranking((ranks + unmasked).clamp(max=n_items), nothing.long(), nothing)}
    )
    if len(targets):
        hidden = torch.zeros(n_rows, dtype=torch.bool, device=states.device)
        hidden[row[item == targets[row]]] = True
        ranks[hidden] = n_items
    return Ranking(ranks, items.masked_fill(values == -torch.inf, -1), values, parts=parts)


def scores_of(states: Tensor, scorer: Scorer, items: Tensor) -> Tensor:
    """Scores of some items a row, [B, C] for items [B, C], from blocks of the catalogue's."""
    found = states.new_empty(items.shape)
    width = max(1, min(scorer.n_items, _BLOCK // max(len(items), 1)))
    for start in range(0, scorer.n_items, width):
        scores = scorer.block(states, start, min(start + width, scorer.n_items))
        row, place = ((items >= start) & (items < start + width)).nonzero(as_tuple=True)
        found[row, place] = scores[row, items[row, place] - start].to(found.dtype)
    return found


def _merge(best: Tensor, items: Tensor, scores: Tensor, start: int, k: int) -> tuple[Tensor, Tensor]:
    """The k best of the best before and of a block of scores, ties by item id."""
    values, places = first_of_equals(scores, k)
    values = torch.cat([best, values], 1)
    items = torch.cat([items, places + start], 1)
    order = values.argsort(dim=1, descending=True, stable=True)[:, :k]
    return values.gather(1, order), items.gather(1, order)


def first_of_equals(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest scores of each row [B, n], largest first and equal ones by place, and their places, [B, min(k, n)].

    The same on every machine, where ``topk`` may take any of the scores that are equal to its last.
    """
    n = min(k, scores.shape[1])
    more = min(n + 1, scores.shape[1])
    values, places = scores.topk(more, dim=1)
    # topk takes any of those tied at its last place; the few rows where that matters are sorted.
    torn = values[:, n - 1] == values[:, more - 1]
    places = places[:, :n]
    if more > n and bool(torn.any()):
        order = scores[torn].argsort(dim=1, descending=True, stable=True)[:, :n]
        places[torn] = order
    places = places.sort(dim=1).values
    values = scores.gather(1, places)
    order = values.argsort(dim=1, descending=True, stable=True)
    return values.gather(1, order), places.gather(1, order)


@dataclass(frozen=True)
class Evaluation:
    """Ranks of n users' targets."""

    users: Ints  # [n] int64, in rising order; targets and ranks in the same
    targets: Ints
    ranks: Ints  # as ``Ranking.target_rank``
    exposure: Exposure = field(default_factory=dict)  # of the items, for every k; empty where no lists were made
    depth: int | None = None  # see ``Ranking.depth``
    parts: Mapping[str, "Evaluation"] = field(default_factory=dict)  # of the rankings that this one was made from
    #: how many of a retriever's first items were re-ranked; None where there is no retriever
    candidates: int | None = None
    #: means over users of what else was measured (``Ranking.measured``); None where there is no user to average over
    means: Mapping[str, float | None] = field(default_factory=dict)


class Collector:
    """Takes a batch's ranking after the other; ``finish`` joins the processes' parts.

    Exposure is counted in lists of the lengths ``ks``; for ``candidates`` see ``Evaluation``.
    """

    def __init__(self, n_items: int, ks: tuple[int, ...], candidates: int | None = None) -> None:
        self._candidates = candidates
        self._exposure = {k: np.zeros(n_items, dtype=np.int64) for k in ks}
        self._columns: dict[str, list[Ints]] = {"users": [], "targets": [], "": []}
        # Sums and numbers of users of what else is measured.
        self._measured: dict[str, tuple[float, int]] = {}
        self._depths: dict[str, int | None] = {}

    def add(self, users: Tensor, targets: Tensor, ranking: Ranking) -> None:
        """Take a batch: users and targets [B], and how they are ranked."""
        ranks = {"": ranking} | dict(ranking.parts)
        self._depths = {name: one.depth for name, one in ranks.items()}
        columns = {"users": users, "targets": targets} | {name: one.target_rank for name, one in ranks.items()}
        for name, column in columns.items():
            self._columns.setdefault(name, []).append(column.cpu().numpy())
        for name, values in ranking.measured.items():
            known = values[~values.isnan()].double()
            self._count(name, float(known.sum()), len(known))
        expose(self._exposure, ranking.items.cpu().numpy())

    def _count(self, name: str, total: float, n: int) -> None:
        before, others = self._measured.get(name, (0.0, 0))
        self._measured[name] = before + total, others + n

    def finish(self) -> Evaluation:
        """Join all processes' parts; the same on every one of them."""
        nothing = np.zeros(0, dtype=np.int64)
        mine = {name: np.concatenate([nothing, *column]) for name, column in self._columns.items()}
        exposure, depths = self._exposure, self._depths
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            found: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(found, (mine, depths, exposure, self._measured))
            every, lengths, counts, measured = zip(*found, strict=True)
            names = {name: None for columns in every for name in columns}  # without users, none of the parts
            mine = {name: np.concatenate([columns.get(name, nothing) for columns in every]) for name in names}
            depths = {name: depth for each in lengths for name, depth in each.items()}
            exposure = {k: np.sum([each[k] for each in counts], axis=0) for k in exposure}
            self._measured = {}
            for name, sums in (pair for each in measured for pair in each.items()):
                self._count(name, *sums)
        order = np.argsort(mine["users"], kind="stable")
        users, targets, ranks = (mine.pop(name)[order] for name in ("users", "targets", ""))
        parts = {name: Evaluation(users, targets, part[order], depth=depths.get(name)) for name, part in mine.items()}
        means = {name: total / n if n else None for name, (total, n) in self._measured.items()}
        return Evaluation(users, targets, ranks, exposure, depths.get(""), parts, self._candidates, means)
