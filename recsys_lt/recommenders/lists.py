"""Recommendation lists of a trained model, with the source's own ids and titles."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_lt.data.arrays import Ints
from recsys_lt.data.batch import SeenSets
from recsys_lt.data.loader import RankBatches
from recsys_lt.data.sequences import Sequences
from recsys_lt.metrics.groups import GROUPS
from recsys_lt.recommenders.reasons import score_drops
from recsys_lt.recommenders.recommender import Recommender

if TYPE_CHECKING:
    import pandas as pd

#: Events of the user's history that are kept.
RECENT = 5
#: Events that are given as reasons of an item, at most.
_REASONS = 3
_ROWS = 512  # users in a batch


@dataclass(frozen=True)
class Reason:
    """An event of the history that raised an item's score."""

    item: str  # the source's own id
    title: str
    drop: float  # how far the score falls without the event, see ``score_drops``; NaN where there is no other event


@dataclass(frozen=True)
class Item:
    """One listed item."""

    rank: int  # place in the list, from 1
    item: str  # the source's own id
    title: str  # "" where the source has none
    score: float  # the model's; only its order means something; minus infinity where it gives none
    group: str  # head, mid or tail, as the run's metrics have it
    interactions: int  # how often the item was interacted with in training
    reasons: tuple[Reason, ...] = ()  # the strongest first; empty where they were not asked for


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
    excluded: Ints | None = None,
    reasons: bool = False,
) -> Iterator[Recommendation]:
    """The first k items of a model in eval mode for each of some users of its data, given by their place there.

    Parameters
    ----------
    groups
        Group of each item, [I].
    stage
        ``valid`` or ``test``: from the events before that target, as the run was evaluated; None: from whole histories.
    recent
        Last events of the history to keep.
    excluded
        Items that are recommended to nobody.
    reasons
        Whether to find the events that raised each item's score most; see ``score_drops``.
    """
    users = np.array(rows, dtype=np.int64)
    with_seen = module.mask_seen != "none"
    with torch.inference_mode():
        module.begin_ranking()
    batches = RankBatches(data, users, stage, module.max_length, _ROWS, with_seen=with_seen)
    for step in range(len(batches)):
        batch = batches[step]
        here = users[step * _ROWS :][: len(batch)]
        ends = data.targets_at(stage)[here] if stage else np.diff(data.offsets)[here]
        histories = [data.items[a : a + n] for a, n in zip(data.offsets[here].tolist(), ends.tolist(), strict=True)]
        if excluded is not None:
            batch = replace(batch, seen=_with_all(batch.seen, excluded, len(batch), data.n_items))
        with torch.inference_mode():
            ranking = module.rank(batch.to(module.device), k)
            items, scores = ranking.items.cpu().numpy(), ranking.scores.float().cpu().numpy()
            drops: Sequence[NDArray[np.float32] | None] = [None] * len(batch)
            if reasons:
                drops = score_drops(module, here, histories, items)
        for b, (row, history) in enumerate(zip(here.tolist(), histories, strict=True)):
            yield Recommendation(
                user=str(data.user_ids[row]),
                events=len(history),
                recent=tuple(_names(data, item) for item in history[-recent:]),
                items=tuple(
                    Item(
                        rank=place + 1,
                        item=_names(data, item)[0],
                        title=_names(data, item)[1],
                        score=float(scores[b, place]),
                        group=GROUPS[groups[item]],
                        interactions=int(data.popularity[item]),
                        reasons=_reasons(data, history, drops[b], place),
                    )
                    for place, item in enumerate(items[b])
                    if item >= 0
                ),
            )


def _names(data: Sequences, item: int) -> tuple[str, str]:
    return str(data.item_ids[item]), str(data.titles[item])


def _reasons(
    data: Sequences, history: NDArray[np.integer], drops: NDArray[np.float32] | None, place: int
) -> tuple[Reason, ...]:
    """The events without which the item at a place of the list falls most, from ``drops`` [n, k] of the last n."""
    if drops is None:
        return ()
    of_item, read = drops[:, place], history[-len(drops) :]
    strongest = np.argsort(-of_item, kind="stable")[:_REASONS]
    return tuple(Reason(*_names(data, read[e]), float(of_item[e])) for e in strongest if not of_item[e] <= 0)


def _with_all(seen: SeenSets | None, items: Ints, n_rows: int, n_items: int) -> SeenSets:
    """Each row's set with some items in every row."""
    pairs = (np.arange(n_rows)[:, None] * n_items + items).ravel()
    if seen is not None:
        rows = np.repeat(np.arange(n_rows), seen.offsets.diff().numpy())
        pairs = np.concatenate([pairs, rows * n_items + seen.items.numpy()])
    pairs = np.unique(pairs)
    offsets = np.searchsorted(pairs, np.arange(n_rows + 1) * n_items)
    return SeenSets(torch.from_numpy(pairs % n_items), torch.from_numpy(offsets))


def frame(lists: Sequence[Recommendation], reasons: bool = False) -> "pd.DataFrame":
    """Lists as a table: one row an item; the score is missing where the model gives none.

    The column of ``reasons`` holds JSON: [item id, drop of the score] of each, the strongest first.
    """
    import pandas as pd

    columns = ["user", "rank", "item", "title", "score", "group", "training_interactions"]
    rows = [
        (one.user, i.rank, i.item, i.title, None if math.isinf(i.score) else i.score, i.group, i.interactions)
        for one in lists
        for i in one.items
    ]
    table = pd.DataFrame(rows, columns=columns)
    if reasons:
        table["reasons"] = [
            json.dumps([[r.item, None if math.isnan(r.drop) else float(f"{r.drop:.4g}")] for r in i.reasons])
            for one in lists
            for i in one.items
        ]
    return table
