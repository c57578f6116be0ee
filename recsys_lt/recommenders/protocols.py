"""Ranks of one model's targets under each protocol of the field, from one pass over the users."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_lt.data.arrays import Ints, offsets_of
from recsys_lt.data.batch import SeenSets
from recsys_lt.data.loader import RankBatches, rank_loader
from recsys_lt.data.sequences import Sequences
from recsys_lt.losses.output_table import Scorer
from recsys_lt.metrics.ranking import RANKING_METRICS
from recsys_lt.recommenders.recommender import Recommender

#: What is left out of a ranking, as ``metrics.mask_seen`` names it.
MASKS = ("published", "keep_target", "none")
#: Where a target stands among items of its own score: behind them, anywhere with equal probability, before them.
TIES = ("against", "mean", "with")
#: Random items that a target is ranked among in the sampled protocols.
NEGATIVES = 100
_BLOCK = 1 << 22  # scores held at a time


class Protocol(NamedTuple):
    """One way to rank a target."""

    sampled: bool  # among ``NEGATIVES`` random items, not among all
    mask: str  # of ``MASKS``
    ties: str  # of ``TIES``


PROTOCOLS = tuple(Protocol(sampled, mask, ties) for sampled in (False, True) for mask in MASKS for ties in TIES)


class Rivals(NamedTuple):
    """Of the items that n targets are ranked among, how many score higher and how many the same, [n] int64 each."""

    higher: Ints
    equal: Ints


@dataclass(frozen=True)
class Standings:
    """Rivals of n users' targets in the rankings that the protocols differ in.

    Parameters
    ----------
    rivals
        By what the target is ranked among, ``sampled`` and whether seen items are ``masked``.
    repeated
        Whether the user had the target before, [n].
    n_items
        Size of the catalogue, I.
    """

    rivals: Mapping[tuple[bool, bool], Rivals]
    repeated: NDArray[np.bool_]
    n_items: int

    def gains(self, protocol: Protocol, metric: str, k: int) -> NDArray[np.float64]:
        """Gain of each user under a protocol, [n]; its mean is the metric.

        With ``mean`` ties it is the mean gain over the places that the target may have among its equals.
        """
        higher, equal = self.rivals[protocol.sampled, protocol.mask != "none"]
        first, last = higher, higher + equal  # places before the target, at best and at worst
        if protocol.ties == "against":
            first = last
        elif protocol.ties == "with":
            last = first
        places = RANKING_METRICS[metric](np.arange(1.0, k + 1))
        up_to = np.concatenate([[0.0], np.cumsum(places)])
        found = (up_to[np.minimum(last + 1, k)] - up_to[np.minimum(first, k)]) / (last + 1 - first)
        if protocol.mask == "published":  # a repeated target is masked as any seen item, and counts as the last one
            end = NEGATIVES + 1 if protocol.sampled else self.n_items
            found = np.where(self.repeated, places[end - 1] if end <= k else 0.0, found)
        return found


def standings(module: Recommender, data: Sequences, users: Ints, seed: int, batch_rows: int) -> Standings | None:
    """Rank the test targets of some users [n] under every protocol; None if the model does not score every item.

    ``seed`` decides, with the user, which negatives are drawn.
    """
    parts: dict[tuple[bool, bool], list[tuple[Ints, Ints]]] = {}
    repeated = []
    with torch.inference_mode():
        module.begin_ranking()
        for batch in rank_loader(RankBatches(data, users, "test", module.max_length, batch_rows, with_seen=True)):
            assert batch.seen is not None
            negatives = {
                masked: sets.to(module.device)
                for masked, sets in drawn(batch.seen, batch.targets, batch.users, data.n_items, seed).items()
            }
            batch = batch.to(module.device)
            scored = module.scored(batch)
            if scored is None:
                return None
            counted = rivals(*scored, batch.targets, batch.seen, negatives)
            for kind, (higher, equal) in counted.items():
                parts.setdefault(kind, []).append((higher.cpu().numpy(), equal.cpu().numpy()))
            repeated.append(_has(batch.seen, batch.targets).cpu().numpy())
    joined = {kind: Rivals(*map(np.concatenate, zip(*part, strict=True))) for kind, part in parts.items()}
    return Standings(joined, np.concatenate(repeated), data.n_items)


def rivals(
    states: Tensor, scorer: Scorer, targets: Tensor, seen: SeenSets, negatives: Mapping[bool, SeenSets]
) -> dict[tuple[bool, bool], tuple[Tensor, Tensor]]:
    """How many items score higher than each target, and how many the same to within rounding, in blocks of scores.

    Parameters
    ----------
    states, scorer, targets
        [B, ...], what scores the I items for them, and a target each, [B].
    seen
        Each user's earlier items.
    negatives
        Random items to rank the target among, without it, by whether they are all unseen.

    Returns
    -------
    Higher and equal, [B] int64 each, by (sampled, masked) as in ``Standings``. A score that is not a number counts as
    higher.
    """
    n_rows, n_items = len(states), scorer.n_items
    width = max(1, min(n_items, _BLOCK // max(n_rows, 1)))
    blocks = [(start, min(start + width, n_items)) for start in range(0, n_items, width)]
    own = states.new_full((n_rows,), torch.nan)
    for start, stop in blocks:
        here = ((targets >= start) & (targets < stop)).nonzero().squeeze(1)
        if len(here):
            place = (targets[here] - start).unsqueeze(1)
            own[here] = scorer.block(states[here], start, stop).gather(1, place).squeeze(1)
    low = scorer.lower_bounds(states, targets)
    high = 2 * own - low  # what rounding may add, where the lower bound is what it may take away
    sets: dict[str | bool, tuple[Tensor, Tensor]] = {"seen": (seen.rows(), seen.items)}
    sets |= {masked: (each.rows(), each.items) for masked, each in negatives.items()}
    counts = {kind: own.new_zeros((2, n_rows), dtype=torch.int64) for kind in ("all", *sets)}
    for start, stop in blocks:
        scores = scorer.block(states, start, stop)
        for kind, (row, item) in sets.items():
            inside = (item >= start) & (item < stop)
            rows = row[inside]
            compared = _compared(scores[rows, item[inside] - start], low[rows], high[rows])
            counts[kind].index_add_(1, rows, torch.stack(compared).long())
        # Zeros and ones in place of the scores: sums of booleans take five times the product's time.
        counted = torch.promote_types(scores.dtype, torch.float32)
        not_above = (scores <= high.unsqueeze(1)).to(counted).sum(1)
        below = scores.lt_(low.unsqueeze(1)).sum(1, dtype=counted)
        counts["all"] += (stop - start) - torch.stack([not_above, below]).long()
    # The target is none of its own rivals.
    itself = torch.stack(_compared(own, low, high)).long()
    others = counts["all"] - itself
    unseen = others - counts["seen"] + itself * _has(seen, targets)
    found = {(False, False): others, (False, True): unseen, (True, False): counts[False], (True, True): counts[True]}
    return {kind: (higher, least - higher) for kind, (higher, least) in found.items()}


def _compared(scores: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Whether scores are above what rounding may make of the target's, and whether they are at least as high as it."""
    return ~(scores <= high), ~(scores < low)


def _has(sets: SeenSets, targets: Tensor) -> Tensor:
    """Whether each row's set holds its target, [B]."""
    row = sets.rows()
    found = torch.zeros(len(targets), dtype=torch.bool, device=targets.device)
    found[row[sets.items == targets[row]]] = True
    return found


def drawn(
    seen: SeenSets, targets: Tensor, users: Tensor, n_items: int, seed: int, count: int = NEGATIVES
) -> dict[bool, SeenSets]:
    """``count`` random items other than the target for each user, or all that there are.

    Under False they are any items, under True items that the user has not seen. All of a kind are equally likely and
    none is drawn twice; the draw of a user depends on the seed and the user alone.
    """
    offsets = seen.offsets.tolist()
    items: dict[bool, list[Ints]] = {False: [], True: []}
    for row, (target, user) in enumerate(zip(targets.tolist(), users.tolist(), strict=True)):
        left_out = np.append(seen.items[offsets[row] : offsets[row + 1]].numpy(), target)
        # One draw that is long enough for both: its members that are allowed are a draw among these.
        n = min(n_items, count + len(left_out))
        some = np.random.default_rng((seed, user)).choice(n_items, n, replace=False)
        items[False].append(some[some != target][:count])
        items[True].append(some[~np.isin(some, left_out)][:count])
    return {
        masked: SeenSets(
            torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *each])),
            torch.from_numpy(offsets_of(np.array([len(one) for one in each], dtype=np.int64))),
        )
        for masked, each in items.items()
    }
