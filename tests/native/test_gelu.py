import ctypes

import pytest
import torch
import torch.nn.functional as F

from recsys_lt.backbones.mlp import MLP
from recsys_lt.native.gelu import gelu_, gelu_backward_


def test_values_and_gradients(compiled: ctypes.CDLL) -> None:
    x = torch.linspace(-12, 12, 200_001)
    by = torch.linspace(-2, 3, 200_001)
    exact = x.double().requires_grad_()
    value = F.gelu(exact)
    (by_exact,) = torch.autograd.grad(value, exact, by.double())
    forward, backward, by_x = x.clone(), x.clone(), by.clone()
    shift = torch.tensor([0.75])
    gelu_(compiled, forward.view(-1, 1).sub_(0.75), shift)
    gelu_backward_(compiled, backward.view(-1, 1).sub_(0.75), shift, by_x.view(-1, 1))
    assert torch.equal(forward, backward)
    assert ((forward - value.float()).abs() <= 3e-7 * (1 + x.abs())).all()
    assert ((by_x - by_exact.float()).abs() <= 1e-6 * (1 + by.abs())).all()


def test_edges(compiled: ctypes.CDLL) -> None:
    x = torch.tensor([0.0, -torch.inf, torch.inf, torch.nan, -1e30, 1e30])
    finite = x.clone()
    gelu_(compiled, finite.view(1, -1), torch.zeros(6))
    assert finite[0] == 0
    assert finite[2] == torch.inf
    assert finite[3].isnan()
    assert finite[4].abs() == 0
    assert finite[5] == 1e30
    with pytest.raises(ValueError, match="gradient of shape"):
        gelu_backward_(compiled, torch.zeros(2, 3), torch.zeros(3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="bias of shape"):
        gelu_(compiled, torch.zeros(2, 3), torch.zeros(2))


def test_the_feed_forward_with_the_kernel_is_the_plain_one(compiled: ctypes.CDLL) -> None:
    torch.manual_seed(0)
    mlp = MLP(16)
    x = torch.randn(3, 700, 16, requires_grad=True)
    by = torch.randn(3, 700, 16)
    inputs = [x, *mlp.parameters()]
    fast, plain = mlp(x), mlp.plain(x)
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-6)
    for one, other in zip(
        torch.autograd.grad((fast * by).sum(), inputs), torch.autograd.grad((plain * by).sum(), inputs), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
