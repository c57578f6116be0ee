"""Do two cells differ beyond the luck of which users were drawn: paired tests on per-user ranks."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_lt.analysis.cells import Cell
from recsys_lt.errors import UserError
from recsys_lt.metrics.ranking import gains

TESTS = ("t", "wilcoxon")


class UserScores(NamedTuple):
    """What each user's rank was worth, averaged over runs: user [n], target [n], value [n]."""

    user: NDArray[np.int64]
    target: NDArray[np.int64]
    value: NDArray[np.float64]

    def same_users(self, other: "UserScores") -> bool:
        return np.array_equal(self.user, other.user) and np.array_equal(self.target, other.target)


def _read(path: Path, metric: str, k: int) -> UserScores:
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.read_table(path, columns=["user", "target", "rank"])
        user, target, rank = (table[name].to_numpy() for name in ("user", "target", "rank"))
    except (OSError, KeyError, ValueError, ArrowException) as error:
        reason = str(error).splitlines()[0]
        remedy = "Mend or remove that file"
        raise UserError(f"cannot be read as per-user ranks ({reason})", where=path, remedy=remedy) from error
    order = np.argsort(user, kind="stable")
    return UserScores(user[order], target[order], gains(metric, rank[order].astype(np.int64), k))


def _mean_scores(files: Sequence[Path], metric: str, k: int) -> UserScores | None:
    """Per-user mean over runs; None where the runs did not rank the same users and targets."""
    first = _read(files[0], metric, k)
    total = first.value
    for path in files[1:]:
        scores = _read(path, metric, k)
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


def paired_p_value(cell: Cell, reference: Cell, metric: str, k: int, test: str = "t") -> float | None:
    """Two-sided p-value that a cell's users fare as under the reference.

    The gain of each user is averaged over the seeds both cells have; the test is on the differences.

    Parameters
    ----------
    cell, reference
        Cells of one dataset.
    metric, k
        The gain: ``ndcg`` at 10, for example.
    test
        ``t`` (paired t-test) or ``wilcoxon`` (signed ranks, zero differences dropped).

    Returns
    -------
    p in 0..1; None where they have no seed with ranks.parquet in common, or did not rank the same
    targets for the same users.
    """
    from scipy import stats

    ours, theirs = _ranks_by_seed(cell), _ranks_by_seed(reference)
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return None
    a = _mean_scores([path for seed in seeds for path in ours[seed]], metric, k)
    b = _mean_scores([path for seed in seeds for path in theirs[seed]], metric, k)
    if a is None or b is None or not a.same_users(b):
        return None
    difference = a.value - b.value
    if not difference.any():
        return 1.0
    if len(difference) < 2:
        return None
    if test == "wilcoxon":
        return float(stats.wilcoxon(difference).pvalue)
    return float(stats.ttest_1samp(difference, 0.0).pvalue)
