"""All metrics of one evaluation, flat, as metrics.json holds them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys_lt.metrics.exposure import Exposure, exposure_metrics
from recsys_lt.metrics.groups import GROUPS, HEAD
from recsys_lt.metrics.ranking import Ranks, ranking


def all_metrics(
    ranks: Ranks,
    targets: NDArray[np.int64],
    exposure: Exposure | None,
    popularity: NDArray[np.int64],
    groups: NDArray[np.int8],
    ks: Sequence[int],
    depth: int | None = None,
) -> dict[str, float | None]:
    """Ranking metrics overall and by the popularity of the target, and what is recommended.

    Parameters
    ----------
    ranks
        1-based rank of each user's target, 0 for a miss, [n].
    targets
        The targets' item ids, [n].
    exposure
        Counts of what was recommended to these users; None (validation) leaves its metrics out.
    popularity
        Training interactions of each item, [I]: what ARP is a mean of, whatever the groups were made by.
    groups
        Group of each item, as ``popularity_groups`` gives it, [I].
    ks
        List lengths.
    depth
        How many items a list-only model orders; None where the whole catalogue is ranked.

    Returns
    -------
    ``ndcg@10``, ``hr@10``, ``mrr@10``; the same under ``head/``, ``mid/``, ``tail/`` and ``nonhead/``
    (mid and tail together); ``users`` and ``head/users`` ...; ``arp@10``, ``aplt@10``,
    ``coverage@10``, ``gini@10``, ``head/exposure@10`` .... None, never 0, for what was not measured:
    a group without users, a k beyond ``depth`` or the exposure's lists.
    """
    if len(ranks) != len(targets):
        raise ValueError(f"{len(ranks)} ranks do not fit {len(targets)} targets")
    group_of_target = groups[targets]
    values: dict[str, float | None] = ranking(ranks, ks, depth)
    values["users"] = len(ranks)
    members = {name: group_of_target == group for group, name in enumerate(GROUPS)}
    members["nonhead"] = group_of_target != HEAD
    for name, member in members.items():
        inside = ranks[member]
        values |= {f"{name}/{metric}": value for metric, value in ranking(inside, ks, depth).items()}
        values[f"{name}/users"] = len(inside)
    if exposure is not None:
        for k in ks:
            if k in exposure.ks and (depth is None or k <= depth):
                values |= exposure_metrics(exposure.counts[exposure.ks.index(k)], popularity, groups, k)
            else:
                unknown = exposure_metrics(np.zeros_like(popularity), popularity, groups, k)
                values |= dict.fromkeys(unknown)
    return values
