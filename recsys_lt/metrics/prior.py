"""Metrics by two long tails: how popular a target is in the data, and how well a language model knew it before."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lt.metrics.groups import GROUPS, ItemGroups
from recsys_lt.metrics.long_tail import RESAMPLES, equal_bins, served_users
from recsys_lt.metrics.ranking import ranking

#: Names of the groups of a matrix, by its size.
NAMES = {2: ("head", "nonhead"), 3: GROUPS}
_BINS = 10  # of equal popularity
_DRAWS = 100  # held at a time


def prior_groups(prior: NDArray[np.float64], shares: Sequence[float]) -> NDArray[np.int8]:
    """Head, mid and tail of the items by a prior [I], by shares of the items that have one; -1 for nan, [I]."""
    groups = np.full(len(prior), -1, dtype=np.int8)
    known = np.flatnonzero(~np.isnan(prior))
    places = np.empty(len(known), dtype=np.int64)
    places[np.argsort(prior[known], kind="stable")] = np.arange(1, len(known) + 1)
    groups[known] = ItemGroups(places, shares).of
    return groups


def prior_metrics(
    ranks: NDArray[np.int64],
    targets: NDArray[np.int64],
    prior: NDArray[np.int8],
    data: NDArray[np.int8],
    ks: Sequence[int],
    depth: int | None = None,
) -> dict[str, float | None]:
    """Ranking metrics of the users whose target is a head item by its prior, or another, and by popularity too.

    Their names are ``prior_head/ndcg@10``, ``prior_nonhead/data_head/ndcg@10`` and so on. For ranks, targets, ks and
    depth see ``all_metrics``, for prior and data ``prior_matrix``.
    """
    values: dict[str, float | None] = {}
    for row, by_prior in enumerate(NAMES[2]):
        members = {f"prior_{by_prior}": np.minimum(prior, 1) == row}
        members |= {
            f"prior_{by_prior}/data_{by_data}": _cell(prior, data, 2, row, column)
            for column, by_data in enumerate(NAMES[2])
        }
        for name, items in members.items():
            inside = ranks[items[targets]]
            values |= {f"{name}/{metric}": value for metric, value in ranking(inside, ks, depth).items()}
            values[f"{name}/users"] = len(inside)
    return values


def prior_matrix(
    size: int,
    targets: NDArray[np.int64],
    ndcg: NDArray[np.float64],
    hr: NDArray[np.float64],
    prior: NDArray[np.int8],
    data: NDArray[np.int8],
    popularity: NDArray[np.int64],
    exposed: NDArray[np.int64] | None = None,
) -> list[dict[str, Any]]:
    """NDCG@10 and HR@10 of the users whose target is in each group by prior and each group by popularity.

    Parameters
    ----------
    size
        3 for head, mid and tail; 2 for head and the others.
    targets, ndcg, hr
        Each user's target and gains, [n].
    prior, data
        Group of each item, an index into ``GROUPS``, by its prior (-1 for an item without one) and by its popularity,
        [I].
    popularity
        Training interactions of each item, [I].
    exposed
        How often each item is in a list of ten, [I]; None where that is not known.

    Returns
    -------
    For each pair of groups: ``prior`` and ``data``, their names; ``items``; ``interactions``, a mean over them;
    ``exposure``, their share of all lists; what ``served_users`` says of the users; and ``hr@10``. None for what
    cannot be said.
    """
    found = []
    for row, by_prior in enumerate(NAMES[size]):
        for column, by_data in enumerate(NAMES[size]):
            items = _cell(prior, data, size, row, column)
            users = items[targets]
            shown = None if exposed is None or not exposed.sum() else float(exposed[items].sum() / exposed.sum())
            found.append(
                {
                    "prior": by_prior,
                    "data": by_data,
                    "items": int(items.sum()),
                    "interactions": float(popularity[items].mean()) if items.any() else None,
                    "exposure": shown,
                    **served_users(ndcg[users]),
                    "hr@10": float(hr[users].mean()) if users.any() else None,
                }
            )
    return found


def prior_effects(
    targets: NDArray[np.int64],
    ndcg: NDArray[np.float64],
    prior: NDArray[np.int8],
    data: NDArray[np.int8],
    popularity: NDArray[np.int64],
) -> dict[str, dict[str, float] | None]:
    """Differences in NDCG@10 between head and other items, by prior and by popularity; arguments as above.

    Each has its ``value`` and the 95 % interval ``low`` to ``high`` of a percentile bootstrap over the target items of
    each cell, each with all its users: the prior belongs to items, and users of one target are no independent evidence
    of it. None where a cell that it takes has no user. The cells weigh alike, whatever their numbers of users:

    - ``prior``: head less others by prior, a mean over the two groups by popularity;
    - ``data``: head less others by popularity, a mean over the two groups by prior;
    - ``interaction``: the difference by prior among popular items, less that among the others;
    - ``prior_at_equal_popularity``: head less others by prior within ten bins of users whose targets are about equally
      popular, a mean over the bins by their users; bins without a user on one of the sides are left out.
    """
    cells = [_cell(prior, data, 2, *divmod(number, 2))[targets] for number in range(4)]
    weights = {"prior": (0.5, 0.5, -0.5, -0.5), "data": (0.5, -0.5, 0.5, -0.5), "interaction": (1, -1, -1, 1)}
    parts: dict[str, list[tuple[float, NDArray[np.bool_]]]] = {
        name: list(zip(each, cells, strict=True)) if all(cell.any() for cell in cells) else []
        for name, each in weights.items()
    }
    known, head = np.flatnonzero(prior[targets] >= 0), prior[targets] == 0
    pairs = []
    for inside in equal_bins(popularity[targets[known]], _BINS) if len(known) else []:
        users = np.zeros(len(targets), dtype=bool)
        users[known[inside]] = True
        if (users & head).any() and (users & ~head).any():
            pairs.append((float(users.sum()), users))
    total = sum(n for n, _ in pairs)
    parts["prior_at_equal_popularity"] = [
        part for n, users in pairs for part in ((n / total, users & head), (-n / total, users & ~head))
    ]
    return {name: _contrast(each, ndcg, targets) if each else None for name, each in parts.items()}


def _cell(prior: NDArray[np.int8], data: NDArray[np.int8], size: int, row: int, column: int) -> NDArray[np.bool_]:
    """The items of a cell, [I]: of a matrix of two groups, the second has mid and tail."""
    found: NDArray[np.bool_] = (np.minimum(prior, size - 1) == row) & (np.minimum(data, size - 1) == column)
    return found


def _means_over_items(values: NDArray[np.float64], items: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Bootstrap means of gains [n]: draws of their items with replacement, each with all its gains, [RESAMPLES]."""
    _, item = np.unique(items, return_inverse=True)
    sums, sizes = np.bincount(item, values), np.bincount(item)
    generator, means = np.random.default_rng(seed), []
    for _ in range(RESAMPLES // _DRAWS):
        drawn = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=_DRAWS)
        means.append(drawn @ sums / (drawn @ sizes))
    return np.concatenate(means)


def _contrast(
    parts: Sequence[tuple[float, NDArray[np.bool_]]], ndcg: NDArray[np.float64], targets: NDArray[np.int64]
) -> dict[str, float]:
    """Sum of the mean gains of some users [n], each times its weight, with its interval."""
    value = sum(weight * ndcg[users].mean() for weight, users in parts)
    draws = np.zeros(RESAMPLES)
    for seed, (weight, users) in enumerate(parts):
        draws += weight * _means_over_items(ndcg[users], targets[users], seed)
    low, high = np.quantile(draws, [0.025, 0.975]).tolist()
    return {"value": float(value), "low": low, "high": high}
