import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from recsys_lt.backbones.gru4rec import gru


@pytest.mark.parametrize("running", [(5,), (4, 4, 4), (6, 3, 3, 1, 1, 1, 1), (1, 1, 1)])
def test_equals_torch_s_gru(float64, running):
    """Values and gradients of every hidden state, with input and state of different widths."""
    plain = nn.GRU(5, 3, bias=False)
    x = torch.randn(sum(running), 5, requires_grad=True)
    leaves = [x, plain.weight_ih_l0, plain.weight_hh_l0]
    values = [gru(*leaves, running), plain(PackedSequence(x, torch.tensor(running)))[0].data]
    torch.testing.assert_close(*values)
    by = torch.randn_like(values[0])
    ours, theirs = (torch.autograd.grad((value * by).sum(), leaves) for value in values)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_that_are_broadcast(float64):
    w_ih, w_hh = torch.randn(6, 2), torch.randn(6, 2)
    x = torch.randn(3, 2, requires_grad=True)
    (ours,) = torch.autograd.grad(gru(x, w_ih, w_hh, (2, 1)).sum(), x)
    (explicit,) = torch.autograd.grad((gru(x, w_ih, w_hh, (2, 1)) * torch.ones(3, 2)).sum(), x)
    torch.testing.assert_close(ours, explicit)
