"""Metrics of a user's own."""

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_lt.errors import UserError
from recsys_lt.metrics.own import Metric, own_metrics

Ints = NDArray[np.int64]


class _MeanRank(Metric):
    def __call__(self, ranks: Ints, targets: Ints, popularity: Ints, lists: Ints | None) -> float | None:
        return float(ranks.mean())


class _Listed(Metric):
    def __call__(self, ranks: Ints, targets: Ints, popularity: Ints, lists: Ints | None) -> float | None:
        return None if lists is None else float(lists.sum())


class _Nan(Metric):
    def __call__(self, ranks: Ints, targets: Ints, popularity: Ints, lists: Ints | None) -> float | None:
        return float("nan")


def _values(metric: Metric) -> dict[str, float | None]:
    ranks, targets, counts = np.array([1, 3, 8]), np.array([0, 1, 1]), np.array([5, 2])
    members = {"head": targets == 0, "mid": targets == 1, "tail": targets == 2}
    return own_metrics({"own": metric}, ranks, targets, counts, np.array([20, 10]), members)


def test_groups_get_their_own_users_and_no_users_no_value() -> None:
    assert _values(_MeanRank()) == {"own": 4.0, "head/own": 1.0, "mid/own": 5.5, "tail/own": None}


def test_lists_are_of_all_users() -> None:
    assert _values(_Listed()) == {"own": 30.0, "head/own": None, "mid/own": None, "tail/own": None}


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(UserError, match=r"metrics\.extra\.own: it is nan"):
        _values(_Nan())
