"""Short lists of candidates, each user's target among items the user has not seen, and a model's order of them."""

from dataclasses import dataclass

import numpy as np
import torch

from recsys_lt.data.arrays import Ints
from recsys_lt.data.loader import RankBatches, rank_loader
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.recommenders.protocols import drawn
from recsys_lt.recommenders.recommender import Recommender

_PLACES = 1  # sets the draw of the target's place apart from that of the items


@dataclass(frozen=True)
class Shortlists:
    """Candidates of n users and how a model ranks them.

    Parameters
    ----------
    users
        [n], in rising order.
    items, places
        The candidates, [n, C], and the place of the target among them, from 0, [n]. A user's depend on the seed and the
        user alone, so that every model of the same data is given the same.
    ranks
        1-based rank of the target, [n]; ties count against it.
    first
        The candidate that is ranked first, [n]; among equals the one that is listed first.
    """

    users: Ints
    items: Ints
    places: Ints
    ranks: Ints
    first: Ints

    @property
    def targets(self) -> Ints:
        """[n]."""
        found: Ints = np.take_along_axis(self.items, self.places[:, None], 1)[:, 0]
        return found


def shortlists(
    module: Recommender, data: Sequences, users: Ints, others: int, seed: int, stage: str, batch_rows: int
) -> Shortlists | None:
    """Draw candidates for some users [n] and have a model in eval mode rank them; None for one that gives no scores.

    A user's candidates are the target of ``stage`` (``valid`` or ``test``), at a random place, and ``others`` items
    that the user had no event with before it, drawn uniformly. UserError for a user who has seen nearly all items.
    """
    parts: list[tuple[Ints, ...]] = []
    with torch.inference_mode():
        module.begin_ranking()
        for batch in rank_loader(RankBatches(data, users, stage, module.max_length, batch_rows, with_seen=True)):
            assert batch.seen is not None
            found = drawn(batch.seen, batch.targets, batch.users, data.n_items, seed, others)[True]
            few = int(found.offsets.diff().min())
            if few < others:
                what = f"a user of {data.name} has {few} unseen items beside the target, and there are to be {others}"
                raise UserError(what, where="--others", remedy=f"Give {few} or fewer")
            place = [_place(seed, user, others + 1) for user in batch.users.tolist()]
            rows = zip(found.items.view(len(batch), others).numpy(), place, batch.targets.tolist(), strict=True)
            items = torch.from_numpy(np.stack([np.insert(rest, at, target) for rest, at, target in rows]))
            places = torch.tensor(place)
            scores = module.item_scores(batch.to(module.device), items.to(module.device))
            if scores is None:
                return None
            scores = scores.cpu()
            own = scores.gather(1, places.unsqueeze(1))
            ranks = (~(scores < own)).sum(1)  # a score that is not a number is higher than any
            first = items.gather(1, scores.argmax(1, keepdim=True)).squeeze(1)
            parts.append(tuple(part.numpy() for part in (batch.users, items, places, ranks, first)))
    return Shortlists(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _place(seed: int, user: int, length: int) -> int:
    return int(np.random.default_rng((seed, user, _PLACES)).integers(length))
