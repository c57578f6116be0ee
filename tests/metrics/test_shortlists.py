"""Metrics of shortlists by hand."""

import numpy as np
import pytest

from recsys_lt.metrics.shortlists import genre_shares, shortlist_metrics


def test_by_hand():
    popularity, groups = np.array([10, 4, 4, 1]), np.array([0, 1, 1, 2], dtype=np.int8)
    genres = ["Drama", "Drama, War", "War", ""]
    ranks, targets, first = np.array([1, 2, 6, 1]), np.array([0, 1, 3, 2]), np.array([0, 0, 0, 2])
    found = shortlist_metrics(ranks, targets, first, 20, popularity, groups, genres)
    assert all(name.endswith("_of_20") for name in found)
    values = {name.removesuffix("_of_20"): value for name, value in found.items()}
    assert values["hr@1"] == 0.5
    assert values["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 6 + 1) / 4)
    assert values["ndcg@5"] == pytest.approx((1 + 1 / np.log2(3) + 0 + 1) / 4)
    assert (values["head/hr@1"], values["mid/hr@1"], values["tail/hr@1"]) == (1.0, 0.5, 0.0)
    assert values["arp@1"] == pytest.approx((3 * 10 + 4) / 4)
    assert values["targets_arp"] == pytest.approx(19 / 4)
    assert (values["head/exposure@1"], values["tail/exposure@1"]) == (0.75, 0.0)
    assert (values["head/targets"], values["mid/targets"]) == (0.25, 0.5)
    assert (values["or_ratio@1"], values["coverage@1"]) == (1.0, 0.5)
    # Of the first items 3/4 are drama; of 18 interactions with a genre 10 + 4/2 are.
    assert values["mgu@1"] == pytest.approx(abs(3 / 4 - 12 / 18))
    assert values["dgu@1"] == pytest.approx(2 * (3 / 4 - 12 / 18))


def test_without_genres_or_targets_of_a_group():
    found = shortlist_metrics(np.array([1]), np.array([0]), np.array([0]), 5, np.array([3, 1]), np.zeros(2, np.int8))
    assert "mgu@1_of_5" not in found
    assert found["tail/hr@1_of_5"] is None


def test_shares_of_genres():
    np.testing.assert_allclose(genre_shares(["B, A", "A, A", " "], np.array([2, 1, 5])), [2 / 3, 1 / 3])
    assert genre_shares(["", ""], np.array([1, 1])).size == 0
