import ctypes

import pytest
import torch

from recsys_lt.data.streams import keys_of
from recsys_lt.losses.loss import Draw
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.losses.sampled_losses import BCE, SCE
from recsys_lt.native import functions
from tests.losses.loss_cases import plain


@pytest.mark.parametrize(
    ("n", "k", "items", "width"), [(1, 1, 1, 1), (5, 3, 7, 20), (40, 11, 300, 64), (3, 900, 4, 83)]
)
def test_scores_and_gradients(compiled: ctypes.CDLL, n: int, k: int, items: int, width: int) -> None:
    torch.manual_seed(0)
    states, table, weights = torch.randn(n, width), torch.randn(items, width), torch.rand(n)
    ids = torch.randint(items, (n, k))
    by_scores = torch.randn(n, k)
    vectors = table[ids]
    torch.testing.assert_close(
        functions.scores(compiled, states, table, ids), (states.unsqueeze(1) * vectors).sum(2), atol=1e-4, rtol=1e-4
    )

    by_states = torch.ones_like(states)  # what is there is added to
    functions.add_by_states(compiled, by_states, table, ids, by_scores)
    torch.testing.assert_close(by_states, 1 + (by_scores.unsqueeze(2) * vectors).sum(1), atol=1e-4, rtol=1e-4)

    by_table = torch.ones_like(table)
    functions.add_by_table(compiled, by_table, states, ids, by_scores, weights)
    share = (by_scores * weights.unsqueeze(1)).unsqueeze(2) * states.unsqueeze(1)
    plain = torch.ones_like(table).index_add_(0, ids.flatten(), share.flatten(0, 1))
    torch.testing.assert_close(by_table, plain, atol=1e-3, rtol=1e-4)


def test_table_gradient_does_not_depend_on_threads(compiled: ctypes.CDLL) -> None:
    torch.manual_seed(0)
    states, weights = torch.randn(200, 64), torch.rand(200)
    ids, by_scores = torch.randint(50, (200, 30)), torch.randn(200, 30)
    threads = torch.get_num_threads()
    answers = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            answers.append(torch.zeros(50, 64))
            functions.add_by_table(compiled, answers[-1], states, ids, by_scores, weights)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_an_item_that_does_not_exist_is_refused(compiled: ctypes.CDLL) -> None:
    for wrong in (-1, 7):
        with pytest.raises(IndexError, match="not in the table of 7"):
            functions.scores(compiled, torch.ones(2, 4), torch.ones(7, 4), torch.tensor([[0, 6], [wrong, 1]]))


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("loss", [SCE(5, 20.0), BCE(2, pool="non_target")])
def test_a_loss_takes_the_kernels_and_stays_what_it_is(
    compiled: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, loss: SCE | BCE, bias: bool, rows: bool
) -> None:
    torch.manual_seed(0)
    n, items, width = 30, 2_000, 64
    states, weight = torch.randn(n, width, requires_grad=True), torch.randn(items, width, requires_grad=True)
    of_items = torch.randn(items, requires_grad=True) if bias else None
    weights, targets = torch.rand(3, n), torch.randint(items, (n,))
    draw = Draw(keys=keys_of(7, torch.arange(n)), step_key=1, rows=torch.arange(n), seen_items=None, seen_offsets=None)
    inputs = [x for x in (states, weight, of_items) if x is not None]
    called = []
    taken = loss._gathered
    monkeypatch.setattr(loss, "_gathered", lambda *of: called.append(of[-1]) or taken(*of))

    fast, fast_losses = loss(states, targets, OutputTable(weight, of_items, rows), weights, draw)
    slow, plain_losses = plain(loss, states, targets, OutputTable(weight, of_items), weights, draw)
    assert called == [compiled]
    torch.testing.assert_close(fast_losses, plain_losses, atol=1e-4, rtol=1e-4)
    by_totals = torch.rand(3)
    for of_fast, of_plain in zip(
        torch.autograd.grad(fast, inputs, by_totals), torch.autograd.grad(slow, inputs, by_totals), strict=True
    ):
        assert of_fast.is_sparse == (rows and of_fast.shape[0] == items)
        torch.testing.assert_close(of_fast.to_dense(), of_plain, atol=1e-4, rtol=1e-3)
