"""Negative sampling: the pool of items, and draws of each target's own or shared by a batch."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lt.data.streams import integers, key_of, keys_of
from recsys_lt.errors import UserError
from recsys_lt.losses.answering import Scored
from recsys_lt.losses.blocks import row_blocks
from recsys_lt.losses.loss import Draw


class Pool:
    """The items that a negative may be: every one, the target and the user's own included (as published for SCE, NCE).

    A subclass leaves some out.
    """

    needs_seen: bool = False
    #: Items of the catalogue that no target may draw, at the least.
    least_left_out: int = 0

    def own(self, draw: Draw, targets: Tensor, k: int, n_items: int) -> Tensor:
        """K draws for each target, uniform over its pool, with replacement: [N, K] int64."""
        return integers(draw.keys, k, n_items)

    def forbidden(self, draw: Draw, targets: Tensor, shared: Tensor, n_items: int) -> Tensor | None:
        """Which of the batch's ``shared`` negatives [K] lie outside each target's pool, [N, K] or None."""
        return None

    def outside(self, draw: Draw, targets: Tensor, ids: Tensor, n_items: int) -> Tensor:
        """Which of each target's items lie outside its pool, [N, M] -> [N, M] bool."""
        return torch.zeros_like(ids, dtype=torch.bool)


class NonTarget(Pool):
    """Every item but the target itself."""

    least_left_out = 1

    def own(self, draw: Draw, targets: Tensor, k: int, n_items: int) -> Tensor:
        if n_items < 2:
            raise UserError("a catalogue of one item has no negatives", where="loss.pool=non_target")
        ids = integers(draw.keys, k, n_items - 1)
        return ids + (ids >= targets.unsqueeze(1))

    def forbidden(self, draw: Draw, targets: Tensor, shared: Tensor, n_items: int) -> Tensor:
        return shared == targets.unsqueeze(1)

    def outside(self, draw: Draw, targets: Tensor, ids: Tensor, n_items: int) -> Tensor:
        return ids == targets.unsqueeze(1)


class Unseen(Pool):
    """Every item the user has no training interaction with (as published for BCE and BPR)."""

    needs_seen = True
    least_left_out = 2  # the target, and what was chosen before it

    def own(self, draw: Draw, targets: Tensor, k: int, n_items: int) -> Tensor:
        items, offsets, row_of = _seen_of(draw)
        room = n_items - offsets.diff()[draw.rows]
        if bool((room <= 0).any()):
            what = "a user has interacted with every item of the catalogue, so no negative is unseen"
            raise UserError(what, where="loss.pool=unseen", remedy="Use loss.pool=non_target or loss.pool=all")
        # The r-th unseen item is r + (how many seen items lie at or below it): with the seen items
        # e_0 < e_1 < ..., that is the number of j with e_j - j <= r. One binary search answers for
        # every row at once when each row's values are lifted above those of the rows before.
        ranks = integers(draw.keys, k, 1 << 62).remainder_(room.unsqueeze(1))
        place = torch.arange(len(items), device=items.device) - offsets[row_of]
        lifted = row_of * n_items + items - place
        at = torch.searchsorted(lifted, draw.rows.unsqueeze(1) * n_items + ranks, right=True)
        return ranks + at - offsets[draw.rows].unsqueeze(1)

    def forbidden(self, draw: Draw, targets: Tensor, shared: Tensor, n_items: int) -> Tensor:
        _, offsets, _ = _seen_of(draw)
        rows = torch.arange(len(offsets) - 1, device=offsets.device)
        return _is_seen(draw, rows, shared, n_items)[draw.rows]

    def outside(self, draw: Draw, targets: Tensor, ids: Tensor, n_items: int) -> Tensor:
        return _is_seen(draw, draw.rows, ids, n_items)


def _is_seen(draw: Draw, rows: Tensor, ids: Tensor, n_items: int) -> Tensor:
    """Which items [n, M] or [M] are among the training items of each of the rows [n], [n, M] bool."""
    items, _, row_of = _seen_of(draw)
    wanted = rows.unsqueeze(1) * n_items + ids
    lifted = F.pad(row_of * n_items + items, (0, 1), value=1 << 62)  # ascending, and never empty
    return lifted[torch.searchsorted(lifted, wanted)] == wanted


def _seen_of(draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """Each row's distinct training items [S], where the rows begin [B + 1], and the row of each item [S]."""
    items, offsets = draw.seen_items, draw.seen_offsets
    if items is None or offsets is None:
        raise ValueError("the pool of unseen items needs the draw's seen_items and seen_offsets")
    rows = torch.arange(len(offsets) - 1, device=items.device)
    return items, offsets, torch.repeat_interleave(rows, offsets.diff(), output_size=len(items))


Pools = Literal["all", "unseen", "non_target"]
Share = Literal["position", "batch"]
_POOLS: dict[Pools, type[Pool]] = {"all": Pool, "unseen": Unseen, "non_target": NonTarget}


class Negatives:
    """K negatives for each target, drawn with replacement from the pool ``all``, ``unseen`` or ``non_target``.

    Share ``position``: each target has its own draw (as published); ``batch``: one draw serves all targets of a step,
    which turns N x K gathers into one matrix product at the price of correlated draws.
    """

    def __init__(self, k: int, pool: Pools, share: Share) -> None:
        self.k = k
        self.shared = share == "batch"
        self.pool = _POOLS[pool]()

    def check(self, n_items: int) -> None:
        most = n_items - self.pool.least_left_out
        if self.k > most:
            what = f"{self.k:,} negatives cannot be drawn from a catalogue of {n_items:,} items"
            remedy = f"Use at most loss.k={max(most, 1)}, or loss=ce for the full softmax"
            raise UserError(what, where="loss.k", remedy=remedy)

    def __call__(self, draw: Draw, targets: Tensor, n_items: int) -> tuple[Tensor, Tensor | None]:
        """Negative ids, [N, K] or (shared) [K], and which of the shared ones are forbidden, [N, K] or None."""
        if not self.shared:
            return self.pool.own(draw, targets, self.k, n_items), None
        stream = torch.tensor([draw.step_key], device=targets.device)
        ids = integers(stream, self.k, n_items)[0]
        return ids, self.pool.forbidden(draw, targets, ids, n_items)


#: Draws by popularity for a place whose draw before fell outside the pool; the next one is uniform over the pool.
_TRIES = 8
_BY_POPULARITY = key_of(21)


class PopularNegatives:
    """K negatives of each target's own from a pool, with probability proportional to popularity ** eta.

    Drawn with replacement. What falls outside the pool is drawn again; after eight times, uniformly over the pool. An
    item without training interactions counts as one with a single one.
    """

    def __init__(self, k: int, pool: Pool, counts: Tensor, eta: float) -> None:
        self.k, self.pool = k, pool
        weights = counts.clamp(min=1).double() ** eta
        self._below = weights.cumsum(0) / weights.sum()

    def __call__(self, draw: Draw, targets: Tensor, n_items: int) -> Tensor:
        """Negative ids, [N, K]."""
        below = self._below.to(draw.keys.device)
        ids = torch.zeros(len(targets), self.k, dtype=torch.int64, device=targets.device)
        out = torch.ones_like(ids, dtype=torch.bool)
        for number in range(_TRIES):
            drawn = integers(keys_of(_BY_POPULARITY + number, draw.keys), self.k, 1 << 53)
            found = torch.searchsorted(below, drawn.double() / (1 << 53), right=True).clamp_(max=n_items - 1)
            ids = torch.where(out, found, ids)
            out = self.pool.outside(draw, targets, ids, n_items)
        return torch.where(out, self.pool.own(draw, targets, self.k, n_items), ids)


class HardNegatives:
    """K negatives of each target's own, uniform over the items of its pool that a frozen model ranks first.

    Parameters
    ----------
    k, pool
        How many, drawn with replacement, and of which items. The target is left out always.
    top
        How many first items they are drawn from.
    """

    def __init__(self, k: int, pool: Pool, top: int) -> None:
        self.k, self.pool, self.top = k, pool, top

    def __call__(self, draw: Draw, targets: Tensor, model: Scored) -> Tensor:
        """Negative ids, [N, K]; one outside the pool where the pool has fewer items than ``top``."""
        n_items = model.table.n_items
        top = min(self.top, n_items)
        places = integers(draw.keys, self.k, top)
        found = []
        for rows in row_blocks(len(targets), n_items, targets.device):
            scores = model.table.block(model.states[rows], 0, n_items)
            scores.scatter_(1, targets[rows].unsqueeze(1), -torch.inf)
            if self.pool.needs_seen:
                row, item = _seen_by(draw, draw.rows[rows])
                scores[row, item] = -torch.inf
            found.append(scores.topk(top, dim=1).indices.gather(1, places[rows]))
        return torch.cat(found) if found else places


def _seen_by(draw: Draw, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The training items of rows [n], one after the other: places among the rows, and items."""
    items, offsets, _ = _seen_of(draw)
    sizes = offsets.diff()[rows]
    place = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), sizes)
    within = torch.arange(len(place), device=rows.device) - (sizes.cumsum(0) - sizes)[place]
    return place, items[offsets[rows][place] + within]
