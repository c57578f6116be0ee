"""The numbers of a dataset card."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_lt.data.arrays import Ints, pieces, ragged_index
from recsys_lt.data.features import joined_texts, text_columns, tfidf
from recsys_lt.data.loader import users_with_target
from recsys_lt.data.sequences import Sequences
from recsys_lt.metrics.all_metrics import gini
from recsys_lt.metrics.groups import GROUPS, ItemGroups

#: Upper ends of the bins of history lengths.
_LENGTHS = (5, 7, 10, 15, 20, 30, 50, 100, 200, 500, 1000)
_SCALES, _POINTS = (np.geomspace, np.linspace), 50  # of the popularity curve: dense where it is steep, and to its end
_ROWS = 256  # items whose two hops are found at a time
_EXAMPLES = 5  # groups of alike titles that are shown

Numbers = dict[str, Any]


def counts(data: Sequences) -> Numbers:
    """Users, items, events and the sparsity of the matrix of users and items; events of each part of the split.

    ``sparsity`` is the share of the pairs of a user and an item that have no event. ``equal_times`` is the share of the
    pairs of a user's consecutive events that have the same time, None without times.
    """
    users = np.repeat(np.arange(data.n_users), np.diff(data.offsets))
    pairs = len(np.unique(users * data.n_items + data.items))
    within = users[1:] == users[:-1]
    equal = None
    if data.times is not None and within.any():
        equal = float((np.diff(data.times) == 0)[within].mean())
    return {
        "users": data.n_users,
        "items": data.n_items,
        "events": len(data.items),
        "sparsity": 1 - pairs / (data.n_users * data.n_items),
        "training_events": int(data.train_end.sum()),
        "validation_targets": int((data.valid_at >= 1).sum()),
        "test_targets": int((data.test_at >= 1).sum()),
        "first_time": None if data.times is None else float(data.times.min()),
        "last_time": None if data.times is None else float(data.times.max()),
        "equal_times": equal,
    }


def history_lengths(data: Sequences) -> Numbers:
    """Events of a user: mean, quartiles and largest, and how many users are in each bin of lengths."""
    lengths = np.diff(data.offsets)
    ends = [end for end in _LENGTHS if lengths.min() <= end < lengths.max()] + [int(lengths.max())]
    starts = [int(lengths.min()), *(end + 1 for end in ends[:-1])]
    bins = [
        {"shortest": start, "longest": end, "users": int(((lengths >= start) & (lengths <= end)).sum())}
        for start, end in zip(starts, ends, strict=True)
    ]
    return {**_spread(lengths), "bins": bins}


def popularity(data: Sequences, groups: ItemGroups) -> Numbers:
    """Training interactions of an item: mean, quartiles, largest, Gini coefficient, and some points of the curve.

    Each group and each tenth of the items has its share of the training interactions and of the test targets.
    """
    order, trained = groups.order, data.popularity
    targets = np.bincount(data.targets(users_with_target(data, "test"), "test"), minlength=data.n_items)

    def part(items: Ints) -> Numbers:
        return {
            "items": len(items),
            "least": int(trained[items].min()) if len(items) else None,
            "most": int(trained[items].max()) if len(items) else None,
            "interactions": _share(trained[items].sum(), trained.sum()),
            "targets": _share(targets[items].sum(), targets.sum()),
        }

    most = max(1, round(0.01 * data.n_items))
    return {
        **_spread(trained),
        "gini": gini(trained),
        "untrained_items": int((trained == 0).sum()),
        "share_of_top_1_percent": _share(trained[order[:most]].sum(), trained.sum()),
        "curve": [
            {"place": int(place), "interactions": int(trained[order[int(place) - 1]])}
            for place in np.unique(np.concatenate([scale(1, data.n_items, _POINTS) for scale in _SCALES]).round())
        ],
        "groups": {name: part(np.flatnonzero(groups.of == group)) for group, name in enumerate(GROUPS)},
        "tenths": [part(piece) for piece in np.array_split(order, min(10, data.n_items))],
    }


def repeats(data: Sequences) -> Numbers:
    """Shares of events, and of test targets, whose item the user had before, and of test targets never trained."""
    users = np.repeat(np.arange(data.n_users), np.diff(data.offsets))
    pairs = users * data.n_items + data.items
    _, first = np.unique(pairs, return_index=True)  # of each pair its first event
    new = np.zeros(len(pairs), dtype=bool)
    new[first] = True
    tested = users_with_target(data, "test")
    places = data.offsets[tested] + data.test_at[tested]
    return {
        "events": _share((~new).sum(), len(new)),
        "targets": _share((~new[places]).sum(), len(tested)),
        "targets_never_trained": _share((data.popularity[data.items[places]] == 0).sum(), len(tested)),
    }


def consecutive(data: Sequences) -> tuple[Ints, Ints]:
    """Items of each two consecutive training events of a user, where they are not the same item, [n] each."""
    items = np.asarray(data.items)[ragged_index(data.offsets[:-1], data.train_end)].astype(np.int64)
    users = np.repeat(np.arange(data.n_users), data.train_end)
    pairs = (users[1:] == users[:-1]) & (items[1:] != items[:-1])
    return items[:-1][pairs], items[1:][pairs]


def neighbourhood(data: Sequences, users: Ints) -> Numbers:
    """How near the test targets of some users [n] are to their histories in the graph of consecutive training events.

    Two items are neighbours if one directly follows the other in somebody's training events. Two hops from the last
    item lead to its neighbours and their neighbours. No item is near itself: ``last_again`` has the targets that are
    the last item once more. All are shares of the users, but ``median_two_hops``, the median number of items within two
    hops of the last item, ``median_degree``, the median number of neighbours of the items that have any, and ``edges``,
    the pairs of neighbours.
    """
    before, after = consecutive(data)
    shape = (data.n_items, data.n_items)
    follows = sp.csr_array((np.ones(len(before), np.float32), (before, after)), shape=shape)
    near = sp.csr_array(follows + follows.T)
    near.data[:] = 1
    degrees = np.diff(near.indptr)
    targets, ends = data.targets(users, "test"), data.offsets[users] + data.test_at[users]
    last = data.items[ends - 1].astype(np.int64)
    reached = np.zeros(len(users), dtype=bool)
    sizes = np.zeros(len(users), dtype=np.int64)
    starts, of_start = np.unique(last, return_inverse=True)
    for piece in pieces(len(starts), _ROWS):
        rows = near[starts[piece]]
        two = sp.csr_array(rows + rows @ near)
        here = np.flatnonzero((of_start >= piece.start) & (of_start < piece.stop))
        row = of_start[here] - piece.start
        two_hops = np.diff(two.indptr)
        sizes[here] = two_hops[row] - _holds(two, row, last[here])  # a neighbour's neighbours include the item itself
        reached[here] = _holds(two, row, targets[here]) & (targets[here] != last[here])
    lengths = data.test_at[users]
    owner = np.repeat(np.arange(len(users)), lengths)
    history = np.asarray(data.items)[ragged_index(data.offsets[users], lengths)].astype(np.int64)
    any_of = np.zeros(len(users), dtype=bool)
    any_of[owner[_holds(near, history, targets[owner])]] = True
    return {
        "last_again": _share((targets == last).sum(), len(users)),
        "successor_of_last": _share(_holds(follows, last, targets).sum(), len(users)),
        "neighbour_of_last": _share(_holds(near, last, targets).sum(), len(users)),
        "within_two_hops": _share(reached.sum(), len(users)),
        "median_two_hops": float(np.median(sizes)) if len(users) else None,
        "neighbour_of_any": _share(any_of.sum(), len(users)),
        "median_degree": float(np.median(degrees[degrees > 0])) if (degrees > 0).any() else None,
        "edges": int(near.nnz // 2),
    }


def texts(data: Sequences) -> sp.csr_array | None:
    """TF-IDF of the items' texts, [I, terms], as ``features=tfidf`` reads them; None where no item has a text."""
    columns = text_columns(data)
    return tfidf(joined_texts(data, columns, "dataset.items")) if columns else None


def text_similarity(data: Sequences, vectors: sp.csr_array) -> Numbers:
    """Mean cosine of the texts [I, terms] of consecutive training items, and of pairs drawn at random.

    The items of a random pair are drawn as training events are, two different ones: popular items are as frequent as in
    the consecutive pairs. The mean over all such pairs is exact. Items without a text are left out.
    """
    known = np.diff(vectors.indptr) > 0
    before, after = consecutive(data)
    both = known[before] & known[after]
    cosines = [
        np.asarray(vectors[before[both][piece]].multiply(vectors[after[both][piece]]).sum(1)).ravel()
        for piece in pieces(int(both.sum()), 1 << 16)
    ]
    found = np.concatenate(cosines) if cosines else np.zeros(0)
    trained = np.where(known, data.popularity, 0).astype(np.float64)
    total, squares = trained.sum(), (trained**2).sum()
    mean = vectors.T @ trained
    # All ordered pairs of events less those of an item with itself, whose cosine is 1.
    pairs = total**2 - squares
    return {
        "consecutive": float(found.mean()) if len(found) else None,
        "random": float((mean @ mean - squares) / pairs) if pairs > 0 else None,
        "pairs": len(found),
        "items_with_text": int(known.sum()),
    }


_LETTERS = re.compile(r"[^\W\d_]+")


def alike_titles(titles: Sequence[str]) -> Numbers:
    """Items whose title has the same words as another's, whatever their order, case, punctuation and numbers.

    ``same`` counts the items whose title is the same but for case and spaces. ``examples`` are the largest groups of
    the others: up to three titles of each, and how many items it has.
    """
    plain = [" ".join(title.casefold().split()) for title in titles]
    exact = Counter(filter(None, plain))
    words = [" ".join(sorted(_LETTERS.findall(title))) for title in plain]
    groups: dict[str, list[int]] = {}
    for item, key in enumerate(words):
        if key:
            groups.setdefault(key, []).append(item)
    several = [items for items in groups.values() if len(items) > 1]
    varied = [items for items in several if len({plain[item] for item in items}) > 1]
    varied.sort(key=len, reverse=True)  # stable
    return {
        "items_with_title": sum(map(bool, plain)),
        "same": sum(n for n in exact.values() if n > 1),
        "alike": sum(map(len, several)),
        "examples": [
            {"items": len(items), "titles": list(dict.fromkeys(titles[item] for item in items))[:3]}
            for items in varied[:_EXAMPLES]
        ],
    }


def _holds(matrix: sp.csr_array, rows: Ints, columns: Ints) -> NDArray[np.bool_]:
    """Whether a matrix has an entry in each of some places, [n]."""
    matrix.sort_indices()
    width = matrix.shape[1]
    places = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)) * width + matrix.indices
    found: NDArray[np.bool_] = np.isin(rows * width + columns, places)
    return found


def _share(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None


def _spread(values: Ints) -> Numbers:
    lowest, median, highest = np.quantile(values, (0.25, 0.5, 0.75))
    return {
        "mean": float(values.mean()),
        "least": int(values.min()),
        "lower_quartile": float(lowest),
        "median": float(median),
        "upper_quartile": float(highest),
        "most": int(values.max()),
    }
