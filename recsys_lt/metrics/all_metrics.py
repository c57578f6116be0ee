"""All metrics of one evaluation, flat, as metrics.json holds them: of the ranking, and popularity bias of the lists."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys_lt.metrics.groups import GROUPS, HEAD, TAIL
from recsys_lt.metrics.ranking import Ranks, ranking

#: How often each item is in a user's first k, [I] int64, for every k; the lists themselves are not kept.
Exposure = Mapping[int, NDArray[np.int64]]


def expose(exposure: Exposure, top_items: NDArray[np.int64]) -> None:
    """Count lists, best item first: [n, k_max] item ids, -1 where a list is shorter."""
    for k, counts in exposure.items():
        listed = top_items[:, :k].ravel()
        np.add.at(counts, listed[listed >= 0], 1)


def all_metrics(
    ranks: Ranks,
    targets: NDArray[np.int64],
    exposure: Exposure,
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
        Counts of what was recommended to these users; its metrics are left out where there are none (validation).
    popularity
        Training interactions of each item, [I]: what ARP is a mean of, whatever the groups were made by.
    groups
        Group of each item, as ``ItemGroups.of`` gives it, [I].
    ks
        List lengths.
    depth
        How many items a list-only model orders; None where the whole catalogue is ranked.

    Returns
    -------
    ``ndcg@10``, ``hr@10``, ``mrr@10``; the same under ``head/``, ``mid/``, ``tail/`` and ``nonhead/``
    (mid and tail together), and under ``uniform/`` (every item counts alike, see ``ranking.by_item``); ``users`` and
    ``head/users`` ...; ``arp@10``, ``aplt@10``,
    ``coverage@10``, ``gini@10``, ``head/exposure@10`` .... None, never 0, for what was not measured:
    a group without users, a k beyond ``depth`` or the exposure's lists.
    """
    group_of_target = groups[targets]
    values: dict[str, float | None] = ranking(ranks, ks, depth)
    values["users"] = len(ranks)
    members = {name: group_of_target == group for group, name in enumerate(GROUPS)}
    members["nonhead"] = group_of_target != HEAD
    for name, member in members.items():
        inside = ranks[member]
        values |= {f"{name}/{metric}": value for metric, value in ranking(inside, ks, depth).items()}
        values[f"{name}/users"] = len(inside)
    values |= {f"uniform/{metric}": value for metric, value in ranking(ranks, ks, depth, targets).items()}
    for k in ks if exposure else ():
        known = k in exposure and (depth is None or k <= depth)
        found = exposure_metrics(exposure[k] if known else np.zeros_like(popularity), popularity, groups, k)
        values |= found if known else dict.fromkeys(found)
    return values


def gini(counts: NDArray[np.int64]) -> float | None:
    """Gini coefficient of the items' exposures [I], unrecommended items included; None where nothing was exposed.

    sum_j (2j - I - 1) e_(j) / (I sum e), e in ascending order: 0 where all items have the same exposure,
    1 - 1/I where one item has all of it.
    """
    total = int(counts.sum())
    if total == 0:
        return None
    n_items = len(counts)
    weights = 2.0 * np.arange(1, n_items + 1) - n_items - 1
    return float(weights @ np.sort(counts).astype(np.float64) / (n_items * total))


def exposure_metrics(
    counts: NDArray[np.int64], popularity: NDArray[np.int64], groups: NDArray[np.int8], k: int
) -> dict[str, float | None]:
    """Popularity-bias metrics of the exposures at one k.

    With lists of k items for all users, ARP and APLT are the usual means over users; where some lists
    are shorter, every listed item has the same weight.

    Parameters
    ----------
    counts
        Exposures of each item in lists of k, [I].
    popularity, groups
        As in ``all_metrics``, [I].
    k
        List length, for the names.

    Returns
    -------
    ``arp@k`` mean training interactions of what is recommended (a count); ``aplt@k`` share of tail
    items in a list; ``coverage@k`` share of the catalogue recommended to anyone; ``gini@k``;
    ``head/exposure@k``, ``mid/...``, ``tail/...`` shares of all exposure. None for all of them but
    coverage where nothing was recommended.
    """
    total = int(counts.sum())
    shares: list[float | None] = [
        float(counts[groups == group].sum() / total) if total else None for group in range(len(GROUPS))
    ]
    arp = float(counts.astype(np.float64) @ popularity / total) if total else None
    return {
        f"arp@{k}": arp,
        f"aplt@{k}": shares[TAIL],
        f"coverage@{k}": float(np.count_nonzero(counts) / len(counts)),
        f"gini@{k}": gini(counts),
    } | {f"{name}/exposure@{k}": share for name, share in zip(GROUPS, shares, strict=True)}


def first_code_metrics(
    codes: NDArray[np.int64], exposed: NDArray[np.int64], targets: NDArray[np.int64], k: int
) -> dict[str, float | None]:
    """How recommendations and targets spread over the first tokens of item ids.

    Parameters
    ----------
    codes
        First token of each item, [I].
    exposed
        How often each item is in lists of k, [I].
    targets
        The targets' item ids, [n].
    k
        List length, for the names.

    Returns
    -------
    ``first_code/gini@k`` and ``first_code/targets_gini``: Gini coefficients of how often an item with each code is
    recommended, and is a target. ``first_code/distance@k``: half the sum over codes of the difference of their shares,
    0 where recommendations spread as the targets do. None where nothing was recommended or there is no target.
    """
    used, code = np.unique(codes, return_inverse=True)
    shown = np.bincount(code, exposed, len(used)).astype(np.int64)
    asked = np.bincount(code[targets], minlength=len(used))
    distance = None
    if shown.any() and asked.any():
        distance = float(np.abs(shown / shown.sum() - asked / asked.sum()).sum() / 2)
    return {
        f"first_code/gini@{k}": gini(shown),
        "first_code/targets_gini": gini(asked),
        f"first_code/distance@{k}": distance,
    }
