import ctypes

import pytest
import torch

from recsys_lt.backbones.attention import HistoryAttention, Layout
from recsys_lt.backbones.layers import RowDropout
from tests.backbones.test_sasrec import L, batch_of

HISTORIES = [[1], [2, 3, 4], list(range(L)), [5, 6], list(range(L - 1)), [7] * 9]


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("last", [False, True])
def test_the_kernel_is_the_plain_form(compiled: ctypes.CDLL, heads: int, dropout: float, last: bool) -> None:
    torch.manual_seed(1)
    width = 24
    layout = Layout(batch_of(HISTORIES), L)
    queries = layout.last() if last else layout.every()
    attend = HistoryAttention(heads, L, RowDropout(dropout, salt=2))
    n_events = len(layout.position)
    shapes = [(len(HISTORIES) if last else n_events, width), (n_events, 2 * width), (2 * width,)]
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    by_out = torch.randn(shapes[0])

    fast = attend(*inputs, queries)
    assert fast.grad_fn is not None
    assert "NativeAttention" in fast.grad_fn.name()
    plain = attend.plain(*inputs, queries)
    torch.testing.assert_close(fast, plain)
    for of_fast, of_plain in zip(
        torch.autograd.grad(fast, inputs, by_out), torch.autograd.grad(plain, inputs, by_out), strict=True
    ):
        torch.testing.assert_close(of_fast, of_plain, atol=1e-5, rtol=1e-4)


def test_no_dropout_when_ranking(compiled: ctypes.CDLL) -> None:
    layout = Layout(batch_of(HISTORIES), L)
    attend = HistoryAttention(1, L, RowDropout(0.9, salt=2)).eval()
    query, pad = torch.randn(len(layout.position), 8), torch.randn(16)
    key_value = torch.randn(len(layout.position), 16)
    torch.testing.assert_close(
        attend(query, key_value, pad, layout.every()), attend.plain(query, key_value, pad, layout.every())
    )


def test_a_longer_history_than_is_read_is_refused() -> None:
    with pytest.raises(ValueError, match="a history of 4 events, where 3 are read"):
        Layout(batch_of([[1], [2, 3, 4, 5]]), 3)
