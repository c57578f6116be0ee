"""Metrics of short lists of candidates: a target among items that its user has not seen."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys_lt.metrics.all_metrics import exposure_metrics
from recsys_lt.metrics.groups import GROUPS
from recsys_lt.metrics.ranking import Ranks, gains

_MOST_SHOWN = 3  # items that SPRec's ORRatio is the share of


def shortlist_metrics(
    ranks: Ranks,
    targets: NDArray[np.int64],
    first: NDArray[np.int64],
    length: int,
    popularity: NDArray[np.int64],
    groups: NDArray[np.int8],
    attributes: Sequence[str] | None = None,
) -> dict[str, float | None]:
    """Metrics of n users' shortlists; their names end in ``_of_<length>``, so that none is taken for a full ranking's.

    Parameters
    ----------
    ranks, targets, first
        1-based rank of each user's target in the user's list, the target, and the item that is ranked first, [n].
    length
        Candidates of a list, the target included.
    popularity, groups
        As in ``all_metrics``, [I].
    attributes
        Genres of each item, separated by commas, [I]; None where the items have none.

    Returns
    -------
    ``hr@1``, ``mrr`` and ``ndcg@5``, overall and by the popularity of the target (``tail/hr@1``); of the first items
    ``arp@1``, ``coverage@1``, ``gini@1`` and ``tail/exposure@1`` (see ``exposure_metrics``), and SPRec's (arXiv
    2412.09243): ``or_ratio@1``, the share of the three most frequent items; with attributes, over the genres, ``mgu@1``
    and ``dgu@1``, the mean size of the difference between a genre's share of the first items and of the training
    interactions, and the largest of these differences less the least. ``targets_arp`` and ``tail/targets`` are what a
    perfect model has. SPRec's DivRatio, different items over lists, follows from the coverage.
    """
    values: dict[str, float | None] = {}
    member = {"": np.ones(len(ranks), dtype=np.bool_)}
    member |= {f"{name}/": groups[targets] == group for group, name in enumerate(GROUPS)}
    for name, inside in member.items():
        for metric, kind, k in (("hr@1", "hr", 1), ("mrr", "mrr", length), ("ndcg@5", "ndcg", 5)):
            found = gains(kind, ranks[inside], k)
            values[f"{name}{metric}"] = float(found.mean()) if len(found) else None
    n_items = len(popularity)
    shown = np.bincount(first, minlength=n_items)
    values |= {
        name: value for name, value in exposure_metrics(shown, popularity, groups, 1).items() if name != "aplt@1"
    }
    values["or_ratio@1"] = float(np.sort(shown)[-_MOST_SHOWN:].sum() / len(first))
    if attributes is not None:
        shift = genre_shares(attributes, shown) - genre_shares(attributes, popularity)
        values["mgu@1"], values["dgu@1"] = float(np.abs(shift).mean()), float(shift.max() - shift.min())
    values["targets_arp"] = float(popularity[targets].mean())
    values |= {f"{name}/targets": float((groups[targets] == group).mean()) for group, name in enumerate(GROUPS)}
    return {f"{name}_of_{length}": value for name, value in values.items()}


def genre_shares(attributes: Sequence[str], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each genre, in the order of their names, where each item counts so many times, [I].

    An item of g genres counts as a g-th for each of them.
    """
    own = [list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip())) for text in attributes]
    names = {name: place for place, name in enumerate(sorted({name for each in own for name in each}))}
    total = np.zeros(len(names))
    for genres, count in zip(own, counts.tolist(), strict=True):
        for name in genres:
            total[names[name]] += count / len(genres)
    return total / max(total.sum(), 1.0)
