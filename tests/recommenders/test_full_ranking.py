from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lt.data.batch import SeenSets
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.recommenders import full_ranking
from recsys_lt.recommenders.full_ranking import ScoreMatrix, rank_by_scores

some = settings(deadline=None, max_examples=120)


def ranks_and_lists(*of):
    found = rank_by_scores(*of)
    return found.target_rank, found.items


def sets_of(masked):
    items = [item for row in masked for item in sorted(row)]
    return SeenSets(torch.tensor(items, dtype=torch.int64), torch.tensor([0, *map(len, masked)]).cumsum(0))


@st.composite
def problems(draw):
    """Small whole numbers for states, table and bias: products are exact and ties common."""
    n_rows, n_items, d = draw(st.integers(1, 6)), draw(st.integers(1, 15)), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    high = draw(st.sampled_from([1, 2, 4]))

    def whole(*shape):
        return torch.randint(-high, high + 1, shape, generator=generator).to(dtype)

    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    table = OutputTable(whole(n_items, d), whole(n_items) if draw(st.booleans()) else None)
    masked = None
    if draw(st.booleans()):
        masked = [draw(st.sets(st.integers(0, n_items - 1))) for _ in range(n_rows)]
    targets = torch.randint(0, n_items, (n_rows,), generator=generator)
    return whole(n_rows, d), table, targets, masked


def scores_of(states, table):
    scores = states @ table.weight.T
    return scores if table.bias is None else scores + table.bias


def brute_rank(scores, target, masked):
    """Sort with the target last among its equals."""
    if target in masked:
        return len(scores)
    order = sorted(set(range(len(scores))) - masked, key=lambda item: (-scores[item], item == target))
    return order.index(target) + 1


def brute_top(scores, masked, k):
    order = torch.tensor(scores).argsort(descending=True, stable=True).tolist()
    top = [item for item in order if item not in masked][:k]
    return top + [-1] * (k - len(top))


def in_blocks(width, n_rows):
    return mock.patch("recsys_lt.recommenders.full_ranking._BLOCK", width * n_rows)


@given(problem=problems(), k=st.integers(0, 18), width=st.integers(1, 16))
@some
def test_ranks_and_lists_are_those_of_a_sort(problem, k, width):
    states, table, targets, masked = problem
    n_rows = len(states)
    with in_blocks(width, n_rows):
        found = rank_by_scores(states, table, targets, None if masked is None else sets_of(masked), k)
    ranks, top = found.target_rank, found.items
    scores = scores_of(states, table).tolist()
    if masked is None:
        assert not found.parts
    else:
        unmasked = [brute_rank(*row, set()) for row in zip(scores, targets.tolist(), strict=True)]
        assert found.parts["unmasked"].target_rank.tolist() == unmasked
    hidden = masked or [set()] * n_rows
    assert ranks.tolist() == [brute_rank(*row) for row in zip(scores, targets.tolist(), hidden, strict=True)]
    assert top.tolist() == [brute_top(row, own, k) for row, own in zip(scores, hidden, strict=True)]
    assert ranks.dtype == top.dtype == torch.int64
    assert top.shape == (n_rows, k)


@given(problem=problems(), width=st.integers(1, 16), data=st.data())
@some
def test_a_user_is_ranked_alike_in_any_batch(problem, width, data):
    states, table, targets, masked = problem
    with in_blocks(width, 1):
        ranks, top = ranks_and_lists(
            states, table, targets, None if masked is None else sets_of(masked), len(table.weight)
        )
    rows = data.draw(st.permutations(range(len(states))))
    cut = data.draw(st.integers(0, len(rows)))
    for part in (rows[:cut], rows[cut:]):
        if part:
            own = None if masked is None else sets_of([masked[row] for row in part])
            found = ranks_and_lists(states[part], table, targets[part], own, len(table.weight))
            assert torch.equal(found[0], ranks[part])
            assert torch.equal(found[1], top[part])


def random_problem(n_rows=7, n_items=50, d=16, bias=True):
    generator = torch.Generator().manual_seed(0)
    states, weight = (torch.randn(n, d, generator=generator) for n in (n_rows, n_items))
    table = OutputTable(weight, torch.randn(n_items, generator=generator) if bias else None)
    return states, table, torch.randint(0, n_items, (n_rows,), generator=generator)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("width", [1, 3, 7, 50])
def test_real_scores(bias, width):
    states, table, targets = random_problem(bias=bias)
    with in_blocks(width, len(states)):
        ranks, top = ranks_and_lists(states, table, targets, None, 10)
    scores = scores_of(states.double(), OutputTable(*(x if x is None else x.double() for x in table[:2])))
    assert ranks.tolist() == [brute_rank(s, t, set()) for s, t in zip(scores.tolist(), targets, strict=True)]
    assert torch.equal(top, scores.topk(10).indices)


@pytest.mark.parametrize("width", [1, 3, 7, 50])
@pytest.mark.parametrize("bias", [None, 0.3])
def test_a_model_of_one_score_ranks_every_target_last(width, bias):
    """Whatever the order of its sums: equal items are equal to within the rounding of a dot product."""
    states, table, targets = random_problem(d=67)
    table = OutputTable(table.weight[:1].repeat(50, 1), None if bias is None else torch.full((50,), bias))
    with in_blocks(width, len(states)):
        ranks, _ = ranks_and_lists(states, table, targets, None, 0)
        assert ranks.tolist() == [50] * 7
        zeros = torch.zeros_like(states)
        ranks, top = ranks_and_lists(zeros, table, targets, None, 5)
    assert ranks.tolist() == [50] * 7
    assert top.tolist() == [list(range(5))] * 7


def test_a_clear_lead_is_no_tie():
    weight = torch.tensor([[1.0, 0.0], [1.0 + 1e-4, 0.0], [1.0 - 1e-4, 0.0]])
    ranks, _ = ranks_and_lists(torch.ones(3, 2), OutputTable(weight), torch.arange(3), None, 0)
    assert ranks.tolist() == [2, 1, 3]


@pytest.mark.parametrize("width", [1, 7, 50])
def test_a_state_that_is_no_number_ranks_last_and_spares_the_others(width):
    states, table, targets = random_problem()
    expected, top = ranks_and_lists(states, table, targets, None, 5)
    states[3, 2] = torch.nan
    masked = [set()] * 3 + [{int(targets[3]) ^ 1, 5, 9} - {int(targets[3])}] + [set()] * 3
    with in_blocks(width, 7):
        for own in (None, sets_of(masked)):
            ranks, found = ranks_and_lists(states, table, targets, own, 5)
            assert ranks[3] == 50
            others = [0, 1, 2, 4, 5, 6]
            assert torch.equal(ranks[others], expected[others])
            assert torch.equal(found[others], top[others])


def test_an_item_that_scores_no_number_counts_as_higher():
    states, table, targets = random_problem()
    expected, _ = ranks_and_lists(states, table, targets, None, 0)
    spoilt = next(item for item in range(50) if item not in targets)
    below = scores_of(states, table)[:, spoilt] < scores_of(states, table)[torch.arange(7), targets]
    table.weight[spoilt] = torch.nan
    ranks, _ = ranks_and_lists(states, table, targets, None, 0)
    assert torch.equal(ranks, expected + below)


def test_a_masked_target_is_ranked_last():
    states, table, targets = random_problem()
    masked = [{int(target)} for target in targets]
    ranks, top = ranks_and_lists(states, table, targets, sets_of(masked), 50)
    assert ranks.tolist() == [50] * 7
    assert (top[:, -1] == -1).all()
    for row, target in zip(top, targets, strict=True):
        assert sorted(row[:-1].tolist()) == sorted(set(range(50)) - {int(target)})


def test_lists_without_targets_and_nothing_to_list():
    states, table, _ = random_problem()
    nobody = torch.zeros(0, dtype=torch.int64)
    ranks, top = ranks_and_lists(states, table, nobody, None, 4)
    assert ranks.shape == (0,)
    assert torch.equal(top, scores_of(states, table).topk(4).indices)
    everything = sets_of([set(range(50))] * 7)
    assert (ranks_and_lists(states, table, nobody, everything, 4)[1] == -1).all()
    assert ranks_and_lists(states, table, nobody, None, 0)[1].shape == (7, 0)


def test_nothing_is_written_to_what_was_given():
    states, table, targets = random_problem()
    before = [x.clone() for x in (states, *table[:2], targets)]
    ranks_and_lists(states, table, targets, sets_of([{1, 2}] * 7), 5)
    for now, then in zip((states, *table[:2], targets), before, strict=True):
        assert torch.equal(now, then)


def test_float32_counts_every_item_of_a_block():
    assert full_ranking._BLOCK < 2**24
    assert torch.ones(1, full_ranking._BLOCK).sum(1, dtype=torch.float32).long() == full_ranking._BLOCK


def test_ranks_of_scores() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0, 2.0], [1.0, float("nan"), 0.0, 2.0]])
    seen = SeenSets(torch.tensor([0, 3]), torch.tensor([0, 1, 2]))
    found = rank_by_scores(scores, ScoreMatrix(4), torch.tensor([2, 0]), None, 2)
    assert found.target_rank.tolist() == [3, 3]  # a tie and what is no number count against the target
    assert found.items[0].tolist() == [0, 2]
    found = rank_by_scores(scores, ScoreMatrix(4), torch.tensor([2, 3]), seen, 4)
    assert found.target_rank.tolist() == [2, 4]  # a masked target is last
    assert found.items[0].tolist() == [2, 3, 1, -1]
