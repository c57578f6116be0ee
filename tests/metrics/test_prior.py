"""Matrices of prior and popularity by loops, and their effects by hand."""

import numpy as np
import pytest

from recsys_lt.metrics.prior import prior_effects, prior_groups, prior_matrix

RNG = np.random.default_rng(1)
N_ITEMS, N_USERS = 60, 400
PRIOR, DATA = (RNG.integers(-1, 3, N_ITEMS).astype(np.int8), RNG.integers(0, 3, N_ITEMS).astype(np.int8))
POPULARITY = RNG.integers(1, 50, N_ITEMS)
TARGETS = RNG.integers(0, N_ITEMS, N_USERS)
HR = (RNG.random(N_USERS) < 0.3).astype(float)
NDCG = HR * RNG.random(N_USERS)


def test_groups_by_prior_are_shares_of_the_items_that_have_one():
    prior = np.array([3.0, np.nan, 1.0, 5.0, 2.0, 4.0, np.nan, -1.0, 0.0, 9.0, 8.0, 7.0])
    found = prior_groups(prior, (0.2, 0.6, 0.2))
    assert [set(np.flatnonzero(found == group)) for group in (-1, 0, 2)] == [{1, 6}, {9, 10}, {7, 8}]
    assert (prior_groups(np.full(3, np.nan), (0.2, 0.6, 0.2)) == -1).all()


@pytest.mark.parametrize("size", [2, 3])
def test_each_cell_by_a_loop(size):
    exposed = RNG.integers(0, 9, N_ITEMS)
    names = ("head", "nonhead") if size == 2 else ("head", "mid", "tail")
    found = prior_matrix(size, TARGETS, NDCG, HR, PRIOR, DATA, POPULARITY, exposed)
    assert [(one["prior"], one["data"]) for one in found] == [(a, b) for a in names for b in names]
    for one in found:

        def inside(item, one=one):
            named = [names[min(group[item], size - 1)] if group[item] >= 0 else None for group in (PRIOR, DATA)]
            return named == [one["prior"], one["data"]]

        items = [item for item in range(N_ITEMS) if inside(item)]
        users = [user for user in range(N_USERS) if inside(TARGETS[user])]
        assert (one["items"], one["users"]) == (len(items), len(users))
        assert one["interactions"] == pytest.approx(POPULARITY[items].mean())
        assert one["exposure"] == pytest.approx(exposed[items].sum() / exposed.sum())
        assert one["ndcg@10"] == pytest.approx(NDCG[users].mean())
        assert one["hr@10"] == pytest.approx(HR[users].mean())
        assert one["low"] <= one["ndcg@10"] <= one["high"]
    assert sum(one["users"] for one in found) == (PRIOR[TARGETS] >= 0).sum() < N_USERS


def test_a_cell_without_items_has_no_numbers():
    (_, _, none, _) = prior_matrix(2, TARGETS, NDCG, HR, np.minimum(PRIOR, 0), DATA, POPULARITY)
    assert none["items"] == none["users"] == 0
    assert [none[key] for key in ("interactions", "exposure", "ndcg@10", "low", "high", "hr@10")] == [None] * 6
    effects = prior_effects(TARGETS, NDCG, np.minimum(PRIOR, 0), DATA, POPULARITY)
    assert set(effects.values()) == {None}


def test_effects_of_gains_that_are_known():
    """0.5 for a head item by prior, 0.25 for a popular one, and 0.125 more for both."""
    head, popular = PRIOR[TARGETS] == 0, DATA[TARGETS] == 0
    gains = 0.5 * head + 0.25 * popular + 0.125 * (head & popular)
    found = prior_effects(TARGETS, gains, PRIOR, DATA, POPULARITY)
    expected = {"prior": 0.5 + 0.125 / 2, "data": 0.25 + 0.125 / 2, "interaction": 0.125}
    for name, value in expected.items():  # gains are constant in each cell, so there is nothing to be unsure of
        assert [found[name][key] for key in ("value", "low", "high")] == pytest.approx([value] * 3)


def test_at_equal_popularity_nothing_is_left_of_what_popularity_explains():
    prior = np.where(np.median(POPULARITY) < POPULARITY, 0, 1).astype(np.int8)
    prior[::7] = 1 - prior[::7]  # so that bins of popularity have both
    data = np.where(POPULARITY > 30, 0, 1).astype(np.int8)
    edges = np.quantile(POPULARITY[TARGETS], np.linspace(0, 1, 11))
    gains = np.searchsorted(edges[1:-1], POPULARITY[TARGETS]) / 10
    known = prior[TARGETS] == 0
    assert gains[known].mean() > gains[~known].mean() + 0.2
    found = prior_effects(TARGETS, gains, prior, data, POPULARITY)
    assert abs(found["prior_at_equal_popularity"]["value"]) < 0.03
    more = prior_effects(TARGETS, gains + 0.2 * known, prior, data, POPULARITY)
    lift = more["prior_at_equal_popularity"]["value"] - found["prior_at_equal_popularity"]["value"]
    assert lift == pytest.approx(0.2)


def test_users_of_one_target_are_one_draw():
    """Gains that differ by item alone: more users of the same items make nothing surer."""
    gains = RNG.random(N_ITEMS)[TARGETS]
    widths = []
    for times in (1, 5):
        targets, repeated = np.tile(TARGETS, times), np.tile(gains, times)
        one = prior_effects(targets, repeated, PRIOR, DATA, POPULARITY)["prior"]
        widths.append(one["high"] - one["low"])
    assert widths[1] == pytest.approx(widths[0])
    independent = np.random.default_rng(0).random(len(targets))
    two = prior_effects(targets, independent, PRIOR, DATA, POPULARITY)["prior"]
    assert two["high"] - two["low"] < 0.6 * widths[0]


def test_intervals_widen_with_fewer_users():
    widths = []
    for n in (100, 400):
        one = prior_effects(TARGETS[:n], NDCG[:n], PRIOR, DATA, POPULARITY)["interaction"]
        assert one["low"] < one["value"] < one["high"]
        widths.append(one["high"] - one["low"])
    assert widths[0] > 1.4 * widths[1]
