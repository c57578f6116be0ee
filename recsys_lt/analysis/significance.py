"""Tests of one cell against another, over users and seeds."""

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_lt.analysis.cells import Cell
from recsys_lt.errors import UserError
from recsys_lt.evidence.ranks import read_ranks
from recsys_lt.metrics.ranking import gains

#: Level of the tests, and of the intervals beside them.
LEVEL = 0.05
#: Probability with which a detectable difference is found, and for which the seeds needed are counted.
POWER = 0.8
#: Codes of the targets' groups in ranks.parquet that a test may be restricted to; None for all.
GROUPS_TESTED: dict[str, tuple[int, ...] | None] = {
    "": None,
    "head": (0,),
    "mid": (1,),
    "tail": (2,),
    "nonhead": (1, 2),
}
_MOST_SEEDS = 100


class Difference(NamedTuple):
    """What a cell has over its reference, and how sure that is.

    Parameters
    ----------
    value
        Difference of the means over users and seeds.
    low, high
        Its 95 % interval.
    p
        Two-sided p-value that the true difference is zero.
    detectable
        The smallest true difference that a test with these users and seeds finds with probability 0.8.
    seeds
        Seeds of the cell and of the reference.
    seeds_needed
        Seeds of each with which a true difference of this size is found with probability 0.8; None where more than
        100 are needed, or no number is enough because the users are too few.
    over_seeds
        Whether the test is over users and seeds, and so speaks of the methods. Otherwise one of the two has a single
        seed, the test is over users only, and it speaks of these trained models.
    """

    value: float
    low: float
    high: float
    p: float
    detectable: float
    seeds: tuple[int, int]
    seeds_needed: int | None
    over_seeds: bool


class Spread(NamedTuple):
    """Variance between the means of one cell's seeds.

    ``residual`` is the part of it that comes from users alone: each seed ranks some users better and others worse.
    """

    seeds: float
    residual: float


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
    """Test a cell against a reference on the gains of their users.

    Parameters
    ----------
    cell, reference
        Cells of one dataset.
    metric, k
        The gain: ``ndcg`` at 10, for example.
    group
        Test the users whose target is in this popularity group; "" for all.
    share
        Share of the reference's mean that is subtracted. Below 1, a cell that is significantly higher is no worse than
        the reference by more than the rest.

    Returns
    -------
    The difference; None where the cells cannot be compared (``why_untested`` says why).
    """
    ours, theirs = users_of(cell, metric, k, group), users_of(reference, metric, k, group)
    if ours is None or theirs is None or not ours.same_users(theirs) or len(ours.user) < 2:
        return None
    return difference(ours.value, theirs.value, share)


def compare_with(cell: Cell, number: float, metric: str, k: int) -> Difference | None:
    """Test a cell's mean against a published one, which is taken as exact: its users and seeds are not known."""
    ours = users_of(cell, metric, k, "")
    return None if ours is None else difference(ours.value, np.full_like(ours.value, number))


def difference(ours: NDArray[np.float64], theirs: NDArray[np.float64], share: float = 1.0) -> Difference:
    """Difference of two methods that ranked the same users, tested over users and seeds.

    This follows the analysis of multi-reader multi-case studies (Obuchowski and Rockette, Commun. Stat. Simul. Comput.
    1995; Hillis, Stat. Med. 2007): seeds are readers, users are cases. Users are paired. The seeds of the two
    methods are independent draws, also where they have the same numbers. The variance of the difference is the sum of
    the variance between the seeds of each method over their number (Welch) and of the variance of what the users gain,
    less the part of it that the seeds already account for. Degrees of freedom are Satterthwaite's.

    Parameters
    ----------
    ours, theirs
        Gains [n, U] of n seeds for the same U users; n may differ.
    share
        As in ``compare_cells``.
    """
    n, users = (len(ours), len(theirs)), ours.shape[1]
    gained = ours.mean(0) - share * theirs.mean(0)
    value = float(gained.mean())
    of_users = float(gained.var(ddof=1)) / users
    spreads = (spread(ours), spread(theirs, share))
    known = [each for each in spreads if each is not None]
    over_seeds = len(known) == 2
    # What the users' variance holds beyond the luck of the seeds.
    if known:
        a, b = (each or known[0] for each in spreads)  # a single seed is taken to vary as the other cell's do
        beyond = max(of_users - a.residual / n[0] - b.residual / n[1], 0.0)

    def variance(n_ours: int, n_theirs: int) -> tuple[float, float]:
        """Variance of the difference with so many seeds, and its degrees of freedom."""
        parts = (a.seeds / n_ours, n_ours - 1), (b.seeds / n_theirs, n_theirs - 1), (beyond, users - 1)
        total = sum(part for part, _ in parts)
        squares = sum(part**2 / df for part, df in parts)
        return total, total**2 / squares if squares else float("inf")

    total, df = variance(*n) if over_seeds else (of_users, users - 1.0)
    if total == 0.0:
        p = 0.0 if value else 1.0
        return Difference(value, value, value, p, 0.0, n, None, over_seeds)
    from scipy import stats

    error = total**0.5
    half = float(stats.t.ppf(1 - LEVEL / 2, df)) * error
    needed = None
    if known:
        # What is detectable shrinks with every seed.
        enough = bisect_left(
            range(2, _MOST_SEEDS + 1),
            x=-abs(value),
            key=lambda seeds: -_detectable(*variance(max(n[0], seeds), max(n[1], seeds))),
        )
        needed = enough + 2 if enough + 2 <= _MOST_SEEDS else None
    return Difference(
        value,
        value - half,
        value + half,
        float(2 * stats.t.sf(abs(value) / error, df)),
        _detectable(total, df),
        n,
        needed,
        over_seeds,
    )


def _detectable(variance: float, df: float) -> float:
    from scipy import stats

    return float(stats.t.ppf(1 - LEVEL / 2, df) + stats.t.ppf(POWER, df)) * variance**0.5


def spread(gains_of: NDArray[np.float64], share: float = 1.0) -> Spread | None:
    """Variances of a cell's seeds. The one between seeds is at least the part that users alone explain.

    Two or three seeds may agree by luck. The part of users is known from all of them, and no luck goes below it.
    """
    n, users = gains_of.shape
    if n < 2:
        return None
    means = gains_of.mean(1)
    left = gains_of - gains_of.mean(0) - means[:, None] + means.mean()
    residual = share**2 * float((left**2).sum()) / ((n - 1) * (users - 1)) / users
    return Spread(max(share**2 * float(means.var(ddof=1)), residual), residual)


def _read(path: Path, metric: str, k: int, group: str) -> Users:
    ranks = read_ranks(path)
    codes = GROUPS_TESTED[group]
    inside = np.ones(len(ranks.user), dtype=bool)
    if codes is not None:
        if ranks.group is None:
            raise UserError("it does not say the targets' groups", where=path, remedy="Run it again, or test all users")
        inside = np.isin(ranks.group, codes)
    return Users(ranks.user[inside], ranks.target[inside], gains(metric, ranks.rank[inside], k)[None])


def users_of(cell: Cell, metric: str, k: int, group: str) -> Users | None:
    """Gains of a cell's users under each seed; None where a run lacks them, or the runs ranked different targets."""
    found = []
    for run in cell.finished:
        path = run.folder / "ranks.parquet"
        if not path.is_file():
            return None
        found.append(_read(path, metric, k, group))
    if not found or not all(found[0].same_users(other) for other in found):
        return None
    return Users(found[0].user, found[0].target, np.concatenate([each.value for each in found]))


def can_be_tested(cell: Cell, reference: Cell) -> bool:
    """Whether all runs of two cells have a ranks.parquet, of the same users and targets."""
    return not why_untested(cell, reference)


def why_untested(cell: Cell, reference: Cell) -> str:
    """Why two cells cannot be tested against each other, in words; "" where they can."""
    if any(not (run.folder / "ranks.parquet").is_file() for each in (cell, reference) for run in each.finished):
        return "a run without ranks.parquet"
    return "" if compare_cells(cell, reference, "ndcg", 10) is not None else "other users or targets"


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted for their number by Holm's step-down procedure (Holm, Scand. J. Statist. 1979); None stays."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for done, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - done)))
        adjusted[place] = largest
    return adjusted
