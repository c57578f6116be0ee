"""Ranks under every protocol against plain loops."""

from math import log2, nan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lt.data.batch import SeenSets
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.recommenders import protocols
from recsys_lt.recommenders.full_ranking import ScoreMatrix
from recsys_lt.recommenders.protocols import NEGATIVES, PROTOCOLS, Rivals, Standings, drawn, rivals


def sets_of(rows):
    items = [item for row in rows for item in sorted(row)]
    return SeenSets(torch.tensor(items, dtype=torch.int64), torch.tensor([0, *map(len, rows)]).cumsum(0))


def rows_of(sets):
    return [part.tolist() for part in torch.tensor_split(sets.items, sets.offsets[1:-1].tolist())]


@st.composite
def problems(draw):
    """Whole scores, so that ties are common, some of them not a number; sets of seen items and of negatives."""
    n_items, n_rows = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    score = st.sampled_from([0.0, 1.0, 2.0, nan])
    scores = [draw(st.lists(score, min_size=n_items, max_size=n_items)) for _ in range(n_rows)]
    some = st.sets(st.integers(0, n_items - 1))
    targets = [draw(st.integers(0, n_items - 1)) for _ in range(n_rows)]
    seen = [draw(some) for _ in range(n_rows)]
    negatives = {masked: [draw(some) - {target} for target in targets] for masked in (False, True)}
    return scores, targets, seen, negatives


def counted(scores, target, among):
    """Rivals that are higher, and as high; a score that is not a number is higher than any."""
    higher = sum(not scores[item] <= scores[target] for item in among)
    return higher, sum(scores[item] == scores[target] for item in among)


@given(problem=problems(), width=st.integers(1, 12))
@settings(deadline=None, max_examples=150)
def test_rivals_are_those_of_a_loop(problem, width):
    scores, targets, seen, negatives = problem
    n_items = len(scores[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocols, "_BLOCK", width * len(scores))
        sets = {masked: sets_of(rows) for masked, rows in negatives.items()}
        found = rivals(torch.tensor(scores), ScoreMatrix(n_items), torch.tensor(targets), sets_of(seen), sets)
    everything = set(range(n_items))
    for row, (own, target) in enumerate(zip(scores, targets, strict=True)):
        for kind, among in {
            (False, False): everything - {target},
            (False, True): everything - {target} - seen[row],
            (True, False): negatives[False][row],
            (True, True): negatives[True][row],
        }.items():
            assert tuple(int(each[row]) for each in found[kind]) == counted(own, target, among), kind


def test_what_rounding_makes_of_equal_vectors_is_a_tie():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1, 64, generator=generator).repeat(3000, 1)  # long enough for other orders of summation
    states, targets = torch.randn(7, 64, generator=generator), torch.arange(7) * 400
    nothing = sets_of([set()] * 7)
    found = rivals(states, OutputTable(weight), targets, nothing, {False: nothing, True: nothing})
    assert found[False, False][0].tolist() == [0] * 7
    assert found[False, False][1].tolist() == [2999] * 7


def gain(metric, rank, k):
    return 0.0 if rank > k else 1.0 if metric == "hr" else 1 / log2(1 + rank)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("metric", ["ndcg", "hr"])
def test_gains_of_a_protocol_by_hand(protocol, metric):
    # First, tied for it; within the ten by luck; beyond them; a repeated target that would be first.
    higher, equal, repeated = np.array([0, 7, 40, 0]), np.array([3, 8, 2, 0]), [False, False, False, True]
    kinds = [(sampled, masked) for sampled in (False, True) for masked in (False, True)]
    rows = {kind: Rivals(higher + n, equal + n) for n, kind in enumerate(kinds)}
    found = Standings(rows, np.array(repeated), 500).gains(protocol, metric, 10)
    n = kinds.index((protocol.sampled, protocol.mask != "none"))
    expected = []
    for h, e, again in zip(higher + n, equal + n, repeated, strict=True):
        places = range(h + 1, h + e + 2)
        chosen = {"against": places[-1:], "with": places[:1], "mean": places}[protocol.ties]
        hidden = again and protocol.mask == "published"
        expected.append(0.0 if hidden else sum(gain(metric, place, 10) for place in chosen) / len(chosen))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_random_items_are_distinct_allowed_and_the_same_for_a_user_whatever_the_batch():
    n_items, users = 300, torch.arange(40)
    seen = [set(range(user, user + 30)) for user in range(40)]
    targets = torch.tensor([user + 10 if user % 2 else 299 for user in range(40)])  # every other target is a repeat
    found = drawn(sets_of(seen), targets, users, n_items, 0)
    for masked, sets in found.items():
        for row, items in enumerate(rows_of(sets)):
            assert len(items) == len(set(items)) == NEGATIVES
            assert int(targets[row]) not in items
            assert not (masked and seen[row] & set(items))
    again = drawn(sets_of(seen[7:9]), targets[7:9], users[7:9], n_items, 0)
    for masked, sets in found.items():
        assert rows_of(again[masked]) == rows_of(sets)[7:9]
    other = drawn(sets_of(seen), targets, users, n_items, 1)
    assert rows_of(other[True]) != rows_of(found[True])


def test_random_items_are_equally_likely():
    n_users, n_items = 2000, 200
    sets = drawn(sets_of([{0, 1}] * n_users), torch.full((n_users,), 5), torch.arange(n_users), n_items, 3)
    for masked, left_out in ((False, [5]), (True, [0, 1, 5])):
        counts = np.bincount(sets[masked].items.numpy(), minlength=n_items)
        assert counts[left_out].sum() == 0
        share = NEGATIVES / (n_items - len(left_out))
        deviation = (n_users * share * (1 - share)) ** 0.5
        assert np.abs(np.delete(counts, left_out) - n_users * share).max() < 4.5 * deviation


def test_all_items_there_are_where_they_are_few():
    found = drawn(sets_of([{0, 1}]), torch.tensor([3]), torch.tensor([0]), 6, 0)
    assert sorted(found[False].items.tolist()) == [0, 1, 2, 4, 5]
    assert sorted(found[True].items.tolist()) == [2, 4, 5]
