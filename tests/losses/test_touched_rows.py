"""Gradients of the rows a loss touches against gradients of the whole table."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import FULL, SAMPLED, Case, random_case, small_blocks
from torch import Tensor

from recsys_lt.losses.loss import Loss
from recsys_lt.losses.output_table import OutputTable


def gradients(loss: Loss, case: Case, rows: bool) -> tuple[Tensor, list[Tensor]]:
    leaves = [x.clone().requires_grad_() for x in (case.states, case.weight, case.bias) if x is not None]
    table = OutputTable(leaves[1], leaves[2] if case.bias is not None else None, rows)
    totals, _ = loss(leaves[0], case.targets, table, case.weights, case.draw)
    mixture = torch.tensor([0.7, -1.3, 2.1], dtype=totals.dtype)[: len(totals)]
    return totals.detach(), list(torch.autograd.grad((totals * mixture).sum(), leaves))


@pytest.mark.parametrize("share", ["batch", "position"])
@pytest.mark.parametrize("name", SAMPLED)
@given(
    seed=st.integers(0, 2**31),
    n=st.sampled_from([1, 17, 40]),
    bias=st.booleans(),
    n_weights=st.sampled_from([None, 1, 3]),
    small=st.booleans(),
)
@settings(deadline=None, max_examples=8)
def test_rows_are_those_of_the_whole_gradient(name, share, seed, n, bias, n_weights, small):
    case = random_case(seed, n=n, n_items=300, bias=bias, n_weights=n_weights)
    loss = SAMPLED[name](5, "non_target", share)
    with small_blocks(small):
        totals, (by_states, *whole) = gradients(loss, case, rows=False)
        again, (by_same_states, *parts) = gradients(loss, case, rows=True)
    assert torch.equal(totals, again)
    assert torch.equal(by_states, by_same_states)
    for one, other in zip(whole, parts, strict=True):
        assert not one.is_sparse
        assert other.is_sparse
        assert other.is_coalesced()
        ids = other.indices()[0]
        assert len(ids) <= n + (5 if share == "batch" else 5 * n)
        assert (ids.diff() > 0).all()
        assert torch.equal(other.to_dense(), one)  # the same sums in the same order


@pytest.mark.parametrize("name", FULL)
def test_a_loss_on_the_whole_catalogue_hands_back_a_whole_gradient(name):
    case = random_case(1, n_items=300)
    loss = FULL[name]()
    for one, other in zip(gradients(loss, case, False)[1], gradients(loss, case, True)[1], strict=True):
        assert not other.is_sparse
        assert torch.equal(one, other)


@pytest.mark.parametrize(("n_items", "few"), [(46, True), (45, False)])
def test_whole_where_a_step_has_as_many_ids_as_the_table_has_rows(n_items, few):
    loss = SAMPLED["sce"](5, "all", "batch")
    case = random_case(1, n=40, n_items=n_items, bias=False)
    assert gradients(loss, case, rows=True)[1][1].is_sparse == few


def test_no_targets():
    case = random_case(2, n=0, n_items=300, n_weights=3)
    _, (_, *parts) = gradients(SAMPLED["sce"](5, "all", "batch"), case, rows=True)
    assert all(part.is_sparse and not part.to_dense().any() for part in parts)


def test_scored_densely_the_gradient_is_whole():
    case = random_case(3, n_items=300)
    with mock.patch("recsys_lt.losses.sampled._DENSE_SHARE", 10**9):
        assert not gradients(SAMPLED["sce"](5), case, rows=True)[1][1].is_sparse
