"""Numbers of a language model's prior of the items: its correlation with popularity, examples, and runs by both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import ItemGroups
from recsys_lt.metrics.long_tail import K
from recsys_lt.metrics.prior import NAMES, prior_effects, prior_groups, prior_matrix
from recsys_lt.results.cells import Cell
from recsys_lt.results.comparison import compare
from recsys_lt.results.significance import users_of

if TYPE_CHECKING:
    from recsys_lt.llm.title_prior import ItemPrior, TitlePrior

Numbers = dict[str, Any]
Floats = NDArray[np.float64]
#: How often the run in a folder shows each item to the test users, [I].
Exposed = Callable[[Path], NDArray[np.int64]]

#: What each probe is, by its name in ``ItemPrior``.
PROBES = {
    "familiarity": "log-likelihood of the title, less what its tokens cost anywhere",
    "completion": "how much likelier the title's second half is after its own first half than after others'",
}
_TITLES = 5  # examples of a corner
_CURVE = 10  # bins of items of about equal popularity
_CLOUD = (30, 24)  # bins of popularity and of the prior in the picture


def measured(
    data: Sequences, groups: ItemGroups, settings: TitlePrior, prior: ItemPrior, probe: str, cells: Sequence[Numbers]
) -> Numbers:
    """All numbers of the page, as JSON has them.

    ``probe`` is the one that titles are shown by and that the ``cells`` (see ``by_prior``) were made with.
    """
    weights = settings.llm.weights
    return {
        "dataset": data.name,
        "fingerprint": data.fingerprint,
        "items": data.n_items,
        "measured": int((prior.tokens > 0).sum()),
        "untitled": int(sum(not title.strip() for title in data.titles.tolist())),
        "llm": {
            "weights": str(getattr(weights, "name", type(weights).__name__)),
            "untrained": settings.llm.untrained,
            "layers": settings.llm.layers,
            "dtype": settings.llm.dtype,
        },
        "noun": settings.noun,
        "openings": settings.filled(),
        "others": settings.others,
        "title_tokens": settings.title_tokens,
        "groups_by": groups.words,
        "shares": list(groups.shares),
        "probe": probe,
        "probes": {name: _probe(getattr(prior, name), data.popularity, prior.tokens) for name in PROBES},
        "between_probes": spearman(prior.familiarity, prior.completion),
        "corners": _corners(getattr(prior, probe), data),
        "cells": list(cells),
    }


def spearman(one: NDArray[Any], other: NDArray[Any]) -> Numbers | None:
    """Rank correlation of two values of the items that have both, with its 95 % interval; None for fewer than four.

    Source of the interval: Fisher's transformation with the variance of Bonett & Wright, Psychometrika 2000. The
    correlation is None where one of the two has a single value.
    """
    from scipy import stats

    known = ~(np.isnan(one) | np.isnan(other))
    n = int(known.sum())
    if n < 4 or len(np.unique(one[known])) == 1 or len(np.unique(other[known])) == 1:
        return None
    value = float(stats.spearmanr(one[known], other[known]).statistic)
    middle, half = np.arctanh(np.clip(value, -1 + 1e-12, 1 - 1e-12)), 1.96 * np.sqrt((1 + value**2 / 2) / (n - 3))
    low, high = np.tanh([middle - half, middle + half]).tolist()
    return {"items": n, "value": value, "low": low, "high": high}


def _probe(values: Floats, popularity: NDArray[np.int64], tokens: NDArray[np.int64]) -> Numbers:
    """A probe's quartiles, its rank correlations, and where the items lie: what its picture is drawn of."""
    known = np.flatnonzero(~np.isnan(values))
    counts, found = popularity[known], values[known]
    if not len(known):
        return {"items": 0, "quartiles": None, "popularity": None, "tokens": None, "curve": [], "cloud": []}
    order = np.argsort(-counts, kind="stable")
    curve = []
    for piece in np.array_split(order, min(_CURVE, len(order))):
        low, median, high = np.quantile(found[piece], (0.25, 0.5, 0.75)).tolist()
        place = float(np.exp(np.log(np.maximum(counts[piece], 1)).mean()))
        ends = {"least": int(counts[piece].min()), "most": int(counts[piece].max())}
        curve.append({**ends, "middle": place, "low": low, "median": median, "high": high})
    trained = counts > 0
    cloud = []
    if trained.any():
        logs = np.log(counts[trained])
        sizes, across, up = np.histogram2d(logs, found[trained], bins=_CLOUD)
        xs, ys = np.exp((across[1:] + across[:-1]) / 2), (up[1:] + up[:-1]) / 2
        cloud = [
            {"interactions": float(xs[x]), "prior": float(ys[y]), "items": int(sizes[x, y])}
            for x, y in zip(*np.nonzero(sizes), strict=True)
        ]
    return {
        "items": len(known),
        "quartiles": np.quantile(found, (0.25, 0.5, 0.75)).tolist(),
        "popularity": spearman(values, popularity.astype(np.float64)),
        "tokens": spearman(values, tokens.astype(np.float64)),
        "curve": curve,
        "cloud": cloud,
    }


def _corners(values: Floats, data: Sequences) -> Numbers:
    """Titles that are nearest to each corner of prior and popularity, both as places among the items."""
    from scipy import stats

    known = np.flatnonzero(~np.isnan(values))
    places = [stats.rankdata(each[known]) - (len(known) + 1) / 2 for each in (values, data.popularity)]
    found = {}
    for name, by_prior, by_data in (
        ("known and popular", 1, 1),
        ("known and rare", 1, -1),
        ("unknown and popular", -1, 1),
        ("unknown and rare", -1, -1),
    ):
        # The lower of both places, so that neither makes up for the other.
        near = np.minimum(by_prior * places[0], by_data * places[1])
        found[name] = [
            {
                "title": str(data.titles[item]),
                "interactions": int(data.popularity[item]),
                "prior": float(values[item]),
            }
            for item in known[np.argsort(-near, kind="stable")[:_TITLES]]
        ]
    return found


def by_prior(
    folders: Sequence[Path],
    data: Sequences,
    groups: ItemGroups,
    values: Floats,
    against: str | None = None,
    exposed: Exposed | None = None,
) -> list[Numbers]:
    """The matrices of each cell of the runs in these folders, by a prior of the items [I].

    The gains of a user are means over the seeds of a cell: an interval is for these trained models.
    ``against`` are names that single out a control, such as ``sasrec/ce``: each other cell then has the effects on the
    difference of its gains from the control's too. ``exposed`` gives how often the run in a folder shows each item to
    the test users, [I]; None: exposure is not measured. UserError for runs of other test targets than these data have,
    without ranks.parquet, and for names of no cell.
    """
    if not folders:
        return []
    compared = compare(folders, None, against)
    prior = prior_groups(values, groups.shares)
    found = []
    for name, cells in compared.by_dataset.items():
        reference = None if against is None else compared.references[name]
        control = None if reference is None else _gains(reference, data)
        found += [
            _of_cell(cell, data, groups, prior, None if cell is reference else control, exposed)
            for cell in cells
            if cell.finished
        ]
    return found


class _Gains(NamedTuple):
    """Test targets of users and their gains, means over the seeds of a cell, [n] each."""

    user: NDArray[np.int64]
    target: NDArray[np.int64]
    ndcg: Floats
    hr: Floats


def _gains(cell: Cell, data: Sequences) -> _Gains:
    where = cell.finished[0].folder
    ndcg, hr = (users_of(cell, metric, K, "") for metric in ("ndcg", "hr"))
    if ndcg is None or hr is None:
        what = "a run of this cell has no ranks.parquet, or its runs ranked other targets"
        raise UserError(what, where=where, remedy="Name finished runs of one dataset")
    if not _same_targets(ndcg.user, ndcg.target, data):
        what = f"its test targets are not those of {data.name} as it is chosen here"
        raise UserError(what, where=where, remedy="Choose the dataset, its split and its k-core as in the runs")
    return _Gains(ndcg.user, ndcg.target, ndcg.value.mean(0), hr.value.mean(0))


def _of_cell(
    cell: Cell,
    data: Sequences,
    groups: ItemGroups,
    prior: NDArray[np.int8],
    control: _Gains | None,
    exposed: Exposed | None,
) -> Numbers:
    found = _gains(cell, data)
    shown = None if exposed is None else np.sum([exposed(run.folder) for run in cell.finished], axis=0)
    by_both = prior, groups.of, data.popularity
    matrices = {
        f"{size}x{size}": prior_matrix(size, found.target, found.ndcg, found.hr, *by_both, shown) for size in NAMES
    }
    beyond = None if control is None else prior_effects(found.target, found.ndcg - control.ndcg, *by_both)
    return {
        "cell": list(cell.identity),
        "settings": cell.settings,
        "seeds": list(cell.seeds),
        "users": len(found.user),
        "users_without_prior": int((prior[found.target] < 0).sum()),
        "ndcg@10": float(found.ndcg.mean()),
        **matrices,
        "effects": prior_effects(found.target, found.ndcg, *by_both),
        "effects_beyond_control": beyond,
    }


def _same_targets(users: NDArray[np.int64], targets: NDArray[np.int64], data: Sequences) -> bool:
    if not len(users) or users.max() >= data.n_users or (data.test_at[users] < 0).any():
        return False
    return np.array_equal(data.targets(users, "test"), targets)
