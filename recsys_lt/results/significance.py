"""Tests of one cell against another, over users and seeds."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_lt.metrics.ranking import by_item, gains
from recsys_lt.results.cells import Cell
from recsys_lt.runs.packed import RANKS_FILE, ranks_changed
from recsys_lt.runs.ranks import Ranks, read_ranks

#: Level of the tests, and of the intervals beside them.
LEVEL = 0.05
#: Probability with which a detectable difference is found, and for which the seeds needed are counted.
POWER = 0.8
#: Codes of the targets' groups in ranks.parquet that a test is over.
GROUPS_TESTED = {"": (0, 1, 2), "head": (0,), "mid": (1,), "tail": (2,), "nonhead": (1, 2), "uniform": (0, 1, 2)}
_MOST_SEEDS = 100


class Spread(NamedTuple):
    """Variance between the means of one cell's seeds.

    ``residual`` is its part from users only: each seed ranks some users better and others worse.
    """

    seeds: float
    residual: float


@dataclass(frozen=True)
class Variances:
    """Parts of the variance of a difference over this number of ``users``.

    ``ours`` and ``theirs`` are the variance of one seed's mean, of the cell and of the reference, with their degrees of
    ``freedom``: 0 for a single seed, which is assumed to vary as those of the other side do. ``beyond`` is the part of
    the variance that users add: the variance of the difference between users over their number, without its seed noise,
    which the first two parts already count.
    """

    ours: float
    theirs: float
    freedom: tuple[int, int]
    beyond: float
    users: int

    def of(self, n_ours: int, n_theirs: int) -> tuple[float, float]:
        """Variance of the difference with so many seeds, and its degrees of freedom (Satterthwaite)."""
        ours, theirs = self.ours / n_ours, self.theirs / n_theirs
        if min(n_ours, n_theirs) == 1:
            parts = [(ours + theirs, sum(self.freedom))]
        else:
            parts = [(ours, n_ours - 1), (theirs, n_theirs - 1)]
        parts.append((self.beyond, self.users - 1))
        total, squares = sum(part for part, _ in parts), sum(part**2 / df for part, df in parts)
        return total, total**2 / squares if squares else float("inf")


@dataclass(frozen=True)
class Difference:
    """Difference of a cell's mean over users and seeds from its reference's, with its 95 % interval and two-sided p.

    ``seeds`` are the numbers of seeds of the cell and of the reference. A test ``over_seeds`` is over users and seeds:
    it is a statement about the methods. Otherwise one of the two has a single seed, and the test is over users only: it
    is a statement about these trained models. ``variances`` are None if both have a single seed. ``level`` is that of
    the test over the number of comparisons it is corrected for. A ``published`` reference gets no more seeds.
    """

    value: float
    low: float
    high: float
    p: float
    seeds: tuple[int, int]
    over_seeds: bool
    variances: Variances | None
    level: float = LEVEL
    published: bool = False

    @property
    def detectable(self) -> float | None:
        """True difference that is found with a probability of about 0.8; None for a test over users only."""
        return self._detectable(*self.seeds) if self.over_seeds and self.variances is not None else None

    @property
    def seeds_needed(self) -> int | None:
        """Seeds of each cell that find a true difference of this size with a probability of about 0.8.

        None where nothing is known of seeds, or where 100 are too few.
        """
        if self.variances is None:
            return None
        # The detectable difference shrinks with every seed.
        found = 2 + bisect_left(
            range(2, _MOST_SEEDS + 1),
            -abs(self.value),
            key=lambda n: -self._detectable(max(self.seeds[0], n), 1 if self.published else max(self.seeds[1], n)),
        )
        return found if found <= _MOST_SEEDS else None

    def _detectable(self, n_ours: int, n_theirs: int) -> float:
        from scipy import stats

        assert self.variances is not None
        variance, df = self.variances.of(n_ours, n_theirs)
        return float(stats.t.ppf(1 - self.level / 2, df) + stats.t.ppf(POWER, df)) * variance**0.5


class Users(NamedTuple):
    """Gains of the users of a cell: user [U], target [U], value [n, U] with a row a seed."""

    user: NDArray[np.int64]
    target: NDArray[np.int64]
    value: NDArray[np.float64]

    def same_users(self, other: "Users") -> bool:
        return np.array_equal(self.user, other.user) and np.array_equal(self.target, other.target)


def compare_cells(
    cell: Cell, reference: Cell, metric: str, k: int, group: str = "", share: float = 1.0
) -> Difference | None:
    """Test a cell against a reference on the gains of their users: ``ndcg`` at 10, for example.

    Only users whose target is in the popularity ``group`` count; "" for all; "uniform" for the items' means over their
    users, so that items are sampled and not users. ``share`` of the reference's mean is
    subtracted: below 1, a cell that is significantly higher is no worse than the reference by more than the rest. None
    where the cells cannot be compared (``why_untested`` says why).
    """
    ours, theirs = users_of(cell, metric, k, group), users_of(reference, metric, k, group)
    if ours is None or theirs is None or not ours.same_users(theirs) or len(ours.user) < 2:
        return None
    return difference(ours.value, theirs.value, share)


def difference(ours: NDArray[np.float64], theirs: NDArray[np.float64], share: float = 1.0) -> Difference:
    """Difference of two methods that ranked the same users, tested over users and seeds; its p is not corrected.

    This adapts the analysis of multi-reader multi-case studies (Obuchowski and Rockette, Commun. Stat. Simul. Comput.
    1995; Hillis, Stat. Med. 2007): seeds are readers, of whom each method has its own, and users are cases. Users are
    paired. The seeds of the two methods are independent draws, also where they have the same numbers. The variance of
    the difference has two parts: the variance between the seeds of each method over their number (Welch), and the
    variance between users of the difference, less its seed noise, which the first part already counts.

    Gains are [n, U] of n seeds for the same U users, U at least 2; n may differ. ``share`` is as in ``compare_cells``.
    """
    n, users = (len(ours), len(theirs)), ours.shape[1]
    gained = ours.mean(0) - share * theirs.mean(0)
    value, of_users = float(gained.mean()), float(gained.var(ddof=1)) / users
    a, b = spread(ours), spread(theirs, share)
    one, other = a or b, b or a  # a single seed is assumed to vary as the other cell's do
    if one is None or other is None:
        return tested(value, of_users, users - 1, n, False, None)
    beyond = max(of_users - one.residual / n[0] - other.residual / n[1], 0.0)
    variances = Variances(one.seeds, other.seeds, (n[0] - 1, n[1] - 1), beyond, users)
    if a is None or b is None:
        return tested(value, of_users, users - 1, n, False, variances)
    return tested(value, *variances.of(*n), n, True, variances)


def tested(
    value: float, variance: float, df: float, seeds: tuple[int, int], over_seeds: bool, variances: Variances | None
) -> Difference:
    """A difference with its 95 % interval and p by Student's t."""
    from scipy import stats

    if variance**0.5 <= 1e-12:  # gains are between 0 and 1, so this is rounding
        low, high, p = value, value, 0.0 if abs(value) > 1e-12 else 1.0
    else:
        half = float(stats.t.ppf(1 - LEVEL / 2, df)) * variance**0.5
        low, high, p = value - half, value + half, float(2 * stats.t.sf(abs(value) / variance**0.5, df))
    return Difference(value, low, high, p, seeds, over_seeds, variances)


def spread(gains_of: NDArray[np.float64], share: float = 1.0) -> Spread | None:
    """Variances of a cell's seeds, from gains [n, U]; None for n = 1.

    The variance between seeds is at least its part from users: two or three seeds may agree by chance, but that part
    is estimated from all users.
    """
    n, users = gains_of.shape
    if n < 2:
        return None
    means = gains_of.mean(1)
    left = gains_of - gains_of.mean(0) - means[:, None] + means.mean()
    residual = share**2 * float((left**2).sum()) / ((n - 1) * (users - 1)) / users
    return Spread(max(share**2 * float(means.var(ddof=1)), residual), residual)


def corrected(found: Sequence[Difference | None]) -> list[Difference | None]:
    """Differences with p corrected for their number by Holm; tests over seeds and over users only apart."""
    result = list(found)
    for over_seeds in (True, False):  # they answer different questions
        alike = {n: each for n, each in enumerate(found) if each is not None and each.over_seeds is over_seeds}
        for (place, each), p in zip(alike.items(), holm([each.p for each in alike.values()]), strict=True):
            result[place] = replace(each, p=p, level=LEVEL / len(alike))
    return result


@lru_cache(maxsize=16)  # a reference is compared with every other cell
def _ranks(path: Path, changed: int) -> Ranks:
    """The ranks in a file that was last changed at that time."""
    return read_ranks(path)


def users_of(cell: Cell, metric: str, k: int, group: str) -> Users | None:
    """Gains of a cell's users under each seed; None where a run lacks them, or the runs ranked different targets."""
    found = []
    for run in cell.finished:
        changed = ranks_changed(run.folder)
        if changed is None:
            return None
        ranks = _ranks(run.folder / RANKS_FILE, changed)
        inside = np.isin(ranks.group, GROUPS_TESTED[group])
        user, target, value = ranks.user[inside], ranks.target[inside], gains(metric, ranks.rank[inside], k)
        if group == "uniform":
            target, value = by_item(value, target)
            user = target
        found.append(Users(user, target, value[None]))
    if not found or not all(found[0].same_users(other) for other in found):
        return None
    return Users(found[0].user, found[0].target, np.concatenate([each.value for each in found]))


def why_untested(cell: Cell, reference: Cell) -> str:
    """Why two cells cannot be tested against each other, in words; "" where they can."""
    if any(ranks_changed(run.folder) is None for each in (cell, reference) for run in each.finished):
        return "a run without ranks.parquet"
    ours, theirs = (users_of(each, "ndcg", 10, "") for each in (cell, reference))
    if ours is None or theirs is None or not ours.same_users(theirs):
        return "other users or targets"
    return "" if len(ours.user) > 1 else "a single user"


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number by Holm's step-down procedure (Holm, Scand. J. Statist. 1979)."""
    p, order = np.array(p_values), np.argsort(p_values, kind="stable")
    p[order] = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(len(p), 0, -1)))
    return [float(each) for each in p]
