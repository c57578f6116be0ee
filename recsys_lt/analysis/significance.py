"""Do two cells differ beyond the luck of which users were drawn: paired tests on per-user ranks."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_lt.analysis.cells import Cell
from recsys_lt.errors import UserError
from recsys_lt.metrics.ranking import gains

#: Random sign flips of the permutation test, and the least p they can give.
FLIPS = 9_999
LEAST = 1 / (1 + FLIPS)
#: Codes of the targets' groups in ranks.parquet that a test may be restricted to; None for all.
GROUPS_TESTED: dict[str, tuple[int, ...] | None] = {
    "": None,
    "head": (0,),
    "mid": (1,),
    "tail": (2,),
    "nonhead": (1, 2),
}


class UserScores(NamedTuple):
    """What each user's rank was worth, averaged over runs: user [n], target [n], value [n]."""

    user: NDArray[np.int64]
    target: NDArray[np.int64]
    value: NDArray[np.float64]

    def same_users(self, other: "UserScores") -> bool:
        return np.array_equal(self.user, other.user) and np.array_equal(self.target, other.target)


def _read(path: Path, metric: str, k: int, group: str) -> UserScores:
    from pyarrow import ArrowException, parquet

    codes = GROUPS_TESTED[group]
    try:
        table = parquet.read_table(path, columns=["user", "target", "rank", *(["group"] if codes else [])])
        user, target, rank = (table[name].to_numpy() for name in ("user", "target", "rank"))
        if codes:
            inside = np.isin(table["group"].to_numpy(), codes)
            user, target, rank = user[inside], target[inside], rank[inside]
    except (OSError, KeyError, ValueError, ArrowException) as error:
        reason = str(error).splitlines()[0]
        remedy = "Mend or remove that file"
        raise UserError(f"cannot be read as per-user ranks ({reason})", where=path, remedy=remedy) from error
    order = np.argsort(user, kind="stable")
    return UserScores(user[order], target[order], gains(metric, rank[order].astype(np.int64), k))


def _mean_scores(files: Sequence[Path], metric: str, k: int, group: str) -> UserScores | None:
    """Per-user mean over runs; None where the runs did not rank the same users and targets."""
    first = _read(files[0], metric, k, group)
    total = first.value
    for path in files[1:]:
        scores = _read(path, metric, k, group)
        if not first.same_users(scores):
            return None
        total = total + scores.value
    return UserScores(first.user, first.target, total / len(files))


def _ranks_by_seed(cell: Cell) -> dict[object, list[Path]]:
    files: dict[object, list[Path]] = {}
    for run in cell.finished:
        path = run.folder / "ranks.parquet"
        if path.is_file():
            files.setdefault(run.seed, []).append(path)
    return files


def paired_p_value(
    cell: Cell,
    reference: Cell,
    metric: str,
    k: int,
    test: str = "permutation",
    group: str = "",
    share: float = 1.0,
) -> float | None:
    """Two-sided p-value that a cell's users fare as under the reference, or have a share of what they have there.

    The gain of each user is averaged over the seeds both cells have; the test is on the differences.

    Parameters
    ----------
    cell, reference
        Cells of one dataset.
    metric, k
        The gain: ``ndcg`` at 10, for example.
    test
        ``permutation`` (signs of the differences flipped at random, which side was which being all that is
        assumed to be luck), ``t`` (paired t-test) or ``wilcoxon`` (signed ranks, zero differences dropped).
    group
        Test the users whose target is in this popularity group; "" for all.
    share
        Of the reference's gain that a cell's is held against: below 1, a cell that is significantly higher is no
        worse than the reference by more than the rest.

    Returns
    -------
    p in 0..1; None where they have no seed with ranks.parquet in common, or did not rank the same
    targets for the same users.
    """
    difference = _differences(cell, reference, metric, k, group, share)
    if difference is None:
        return None
    if not difference.any():
        return 1.0
    return None if len(difference) < 2 else _TESTS[test](difference)


def can_be_tested(cell: Cell, reference: Cell) -> bool:
    """Whether two cells have a seed with ranks.parquet in common, of the same users and targets."""
    return _differences(cell, reference, "ndcg", 10, "") is not None


def why_untested(cell: Cell, reference: Cell) -> str:
    """Why two cells cannot be tested against each other, in words; "" where they can."""
    ours, theirs = _ranks_by_seed(cell), _ranks_by_seed(reference)
    if not ours or not theirs:
        return "no ranks.parquet"
    if not set(ours) & set(theirs):
        return "no seed in common"
    return "" if can_be_tested(cell, reference) else "other users or targets"


def _differences(
    cell: Cell, reference: Cell, metric: str, k: int, group: str, share: float = 1.0
) -> NDArray[np.float64] | None:
    """What each user gains over the reference's share, a mean over the seeds both have; None where they do not pair."""
    ours, theirs = _ranks_by_seed(cell), _ranks_by_seed(reference)
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return None
    a = _mean_scores([path for seed in seeds for path in ours[seed]], metric, k, group)
    b = _mean_scores([path for seed in seeds for path in theirs[seed]], metric, k, group)
    if a is None or b is None or not a.same_users(b) or len(a.value) == 0:
        return None
    return a.value - share * b.value


def _permutation(difference: NDArray[np.float64]) -> float:
    moved = difference[difference != 0]  # the others are nothing under either sign
    observed = abs(moved.sum()) * (1 - 1e-12)  # sums of the same numbers in another order count as equal
    random = np.random.default_rng(0)
    reached, piece = 0, max(1, (1 << 22) // len(moved))
    for first in range(0, FLIPS, piece):
        signs = random.integers(0, 2, (min(piece, FLIPS - first), len(moved)), dtype=np.int8) * 2.0 - 1.0
        reached += int((np.abs(signs @ moved) >= observed).sum())
    return (1 + reached) / (1 + FLIPS)


def _t(difference: NDArray[np.float64]) -> float:
    from scipy import stats

    return float(stats.ttest_1samp(difference, 0.0).pvalue)


def _wilcoxon(difference: NDArray[np.float64]) -> float:
    from scipy import stats

    return float(stats.wilcoxon(difference).pvalue)


_TESTS = {"permutation": _permutation, "t": _t, "wilcoxon": _wilcoxon}


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted for their number by Holm's step-down procedure (Holm, Scand. J. Statist. 1979); None stays."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for done, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - done)))
        adjusted[place] = largest
    return adjusted
