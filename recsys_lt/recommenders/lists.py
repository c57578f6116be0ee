"""Recommendation lists of a trained model, with the source's own ids and titles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_lt.data.loader import RankBatches
from recsys_lt.data.sequences import Sequences
from recsys_lt.metrics.groups import GROUPS
from recsys_lt.recommenders.recommender import Recommender

if TYPE_CHECKING:
    import pandas as pd

#: Events of the user's history that are kept.
RECENT = 5


@dataclass(frozen=True)
class Item:
    """One listed item."""

    rank: int  # place in the list, from 1
    item: str  # the source's own id
    title: str  # "" where the source has none
    score: float  # the model's; only its order means something; minus infinity where it gives none
    group: str  # head, mid or tail, as the run's metrics have it
    interactions: int  # how often the item was interacted with in training


@dataclass(frozen=True)
class Recommendation:
    """A user's list."""

    user: str  # the source's own id
    events: int  # length of the history that the list is made from
    recent: tuple[tuple[str, str], ...]  # id and title of its last events, oldest first
    items: tuple[Item, ...]  # best first; shorter than k where all other items were seen, or the model lists no more


def lists(
    module: Recommender,
    data: Sequences,
    rows: Sequence[int],
    k: int,
    groups: NDArray[np.int8],
    stage: str | None = None,
    recent: int = RECENT,
) -> list[Recommendation]:
    """The first k items of a model in eval mode for each of some users of its data, given by their place there.

    Parameters
    ----------
    groups
        Group of each item, [I].
    stage
        ``valid`` or ``test``: from the events before that target, as the run was evaluated; None: from whole histories.
    recent
        Last events of the history to keep.
    """

    def names(item: int) -> tuple[str, str]:
        return str(data.item_ids[item]), str(data.titles[item])

    users = np.array(rows, dtype=np.int64)
    with_seen = module.mask_seen != "none"
    batch = RankBatches(data, users, stage, module.max_length, len(rows), with_seen=with_seen)[0]
    with torch.inference_mode():
        module.begin_ranking()
        ranking = module.rank(batch.to(module.device), k)
    ends = data.targets_at(stage)[users] if stage else np.diff(data.offsets)[users]
    found = []
    for row, end, items, values in zip(
        rows, ends.tolist(), ranking.items.tolist(), ranking.scores.tolist(), strict=True
    ):
        history = data.items[data.offsets[row] : data.offsets[row] + end]
        found.append(
            Recommendation(
                user=str(data.user_ids[row]),
                events=len(history),
                recent=tuple(names(item) for item in history[-recent:]),
                items=tuple(
                    Item(rank, *names(item), value, GROUPS[groups[item]], int(data.popularity[item]))
                    for rank, (item, value) in enumerate(zip(items, values, strict=True), start=1)
                    if item >= 0
                ),
            )
        )
    return found


def frame(lists: Sequence[Recommendation]) -> "pd.DataFrame":
    """Lists as a table: one row an item; the score is missing where the model gives none."""
    import pandas as pd

    columns = ("user", "rank", "item", "title", "score", "group", "training_interactions")
    rows = [
        (one.user, i.rank, i.item, i.title, None if math.isinf(i.score) else i.score, i.group, i.interactions)
        for one in lists
        for i in one.items
    ]
    return pd.DataFrame(rows, columns=columns)
