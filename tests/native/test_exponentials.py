import ctypes

import pytest
import torch

from recsys_lt.losses.ce import CE
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.native.functions import exp_rows


def test_exp_is_as_exact_as_float32_allows(compiled: ctypes.CDLL) -> None:
    exact = torch.linspace(-86.9, 88.0, 400_001).view(1, -1)
    x = exact.clone()
    exp_rows(compiled, x)
    assert ((x.double() / exact.double().exp() - 1).abs() < 3e-7).all()


@pytest.mark.parametrize("width", [1, 15, 512, 1300])
def test_sums_of_rows(compiled: ctypes.CDLL, width: int) -> None:
    torch.manual_seed(0)
    scores = torch.randn(7, width) * 5
    x = scores.clone()
    torch.testing.assert_close(exp_rows(compiled, x), scores.double().exp().sum(1).float(), rtol=3e-6, atol=0)
    strided = torch.randn(7, width + 3)
    before = strided.clone()
    exp_rows(compiled, strided[:, 1 : 1 + width])
    torch.testing.assert_close(strided[:, 1 : 1 + width], before[:, 1 : 1 + width].exp())
    assert torch.equal(strided[:, 0], before[:, 0])
    assert torch.equal(strided[:, 1 + width :], before[:, 1 + width :])


def test_edges(compiled: ctypes.CDLL) -> None:
    x = torch.tensor([[-torch.inf, -1e30, -88.0, 89.0, torch.inf, torch.nan, 0.0]])
    exp_rows(compiled, x)
    assert x[0, :3].tolist() == [0, 0, 0]
    assert x[0, 3:5].isinf().all()
    assert x[0, 5].isnan()
    assert x[0, 6] == 1


def test_cross_entropy_with_the_kernel_is_the_textbook_one(compiled: ctypes.CDLL) -> None:
    torch.manual_seed(0)
    states, table = torch.randn(30, 16, requires_grad=True), torch.randn(900, 16, requires_grad=True)
    targets = torch.randint(900, (30,))
    fast = CE()(states, targets, OutputTable(table, None))
    plain = CE().by_blocks(states, targets, OutputTable(table, None))
    torch.testing.assert_close(fast[1], plain[1], atol=1e-5, rtol=1e-5)
    for of_fast, of_plain in zip(
        torch.autograd.grad(fast[0], (states, table)), torch.autograd.grad(plain[0], (states, table)), strict=True
    ):
        torch.testing.assert_close(of_fast, of_plain, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("width", [1, 15, 512, 1300])
def test_rows_are_shifted(compiled: ctypes.CDLL, width: int) -> None:
    torch.manual_seed(0)
    scores, shifts = torch.randn(7, width + 2)[:, 1 : 1 + width] * 5, torch.randn(7)
    expected = (scores - shifts.unsqueeze(1)).exp()
    sums = exp_rows(compiled, scores, shifts)
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(sums, expected.double().sum(1).float(), rtol=3e-6, atol=0)
    assert exp_rows(compiled, torch.tensor([[torch.nan, 0.0]]), torch.zeros(1)).isnan().all()
