"""Reasons of a recommendation: how far an item's score falls when an event is left out of the history."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_lt.data.arrays import Ints
from recsys_lt.data.tasks.task import packed, streams_of
from recsys_lt.errors import UserError
from recsys_lt.recommenders.recommender import Recommender
from recsys_lt.recommenders.sequential import SequentialRecommender

# Scores held at a time, and histories in a batch.
_SCORES, _ROWS = 1 << 23, 2048


def score_drops(
    module: Recommender, users: Ints, histories: Sequence[NDArray[np.integer]], items: Ints
) -> list[NDArray[np.float32]]:
    """How far the scores of some items fall when one event is left out, for each event that the model reads.

    A score is taken relative to the mean score of all items, so that a fall common to all items does not count. The
    history without the event is shortened by it; where the history is longer than the model reads, an older event
    enters in its stead. Any model that scores the whole catalogue will do.

    Parameters
    ----------
    module
        A recommender in eval mode, ready to rank (``begin_ranking``).
    users
        User numbers, [B].
    histories
        Items of each user's events, oldest first.
    items
        Items whose scores are followed, [B, k]; -1 past the end of a list.

    Returns
    -------
    list of arrays
        For each user [n, k], of the last n events that the model reads; NaN where the history is a single event.

    Raises
    ------
    UserError
        If the model does not score all items.
    """
    most = module.max_length
    rows: list[NDArray[np.integer]] = []
    whose: list[int] = []
    for b, history in enumerate(histories):
        recent = history[-(most + 1) :]
        n_read = min(len(history), most)
        left_out = range(len(recent) - n_read, len(recent)) if len(history) > 1 else ()
        rows += [recent[-most:], *(np.delete(recent, event)[-most:] for event in left_out)]
        whose += [b] * (1 + len(left_out))
    owner = np.array(whose)
    followed = np.maximum(items, 0)[owner]
    step = max(1, min(_ROWS, _SCORES // module.n_items))
    found = np.concatenate(
        [
            _relative(module, users[owner[start : start + step]], rows[start : start + step])
            .gather(1, torch.from_numpy(followed[start : start + step]))
            .numpy()
            for start in range(0, len(rows), step)
        ]
    )
    of_users = np.split(found, np.searchsorted(owner, np.arange(1, len(histories))))
    single = np.full((1, items.shape[1]), np.nan, np.float32)
    return [each[0] - each[1:] if len(each) > 1 else single for each in of_users]


def _relative(module: Recommender, users: Ints, histories: Sequence[NDArray[np.integer]]) -> Tensor:
    """Scores of all items less their mean, [n, I], on the CPU."""
    lengths = np.array([len(one) for one in histories], dtype=np.int64)
    nothing = np.zeros(0, dtype=np.int64)
    batch = packed(users, np.concatenate(histories), lengths, nothing, streams_of(0, users))
    batch = batch.to(module.device)
    if isinstance(module, SequentialRecommender):  # as below, without putting the items in order
        scorer = module.backbone.scorer()
        scores = scorer.block(module.backbone.user_states(batch), 0, scorer.n_items)
        return (scores - scores.mean(1, keepdim=True)).float().cpu()
    ranking = module.rank(batch, module.n_items)
    if bool((ranking.items < 0).any()) or bool(ranking.scores.isinf().any()):
        raise UserError(
            "this model does not score every item, so that no drop of a score can be measured",
            where="reasons",
            remedy="Leave --reasons out, or use a model such as model=sasrec",
        )
    scores = torch.empty_like(ranking.scores).scatter_(1, ranking.items, ranking.scores).float()
    return (scores - scores.mean(1, keepdim=True)).cpu()
