import pytest
import torch

from recsys_lt.backbones import layers
from recsys_lt.backbones.layers import MLP


@pytest.mark.parametrize("positions", [(), (0,), (1,), (7, 3), (64,), (65,)])
def test_chunks_equal_the_plain_form(monkeypatch, float64, positions):
    monkeypatch.setattr(layers, "_CHUNK", 16)  # fewer than, as many as and more than a chunk
    model = MLP(6)
    x = torch.randn(*positions, 6, requires_grad=True)
    weights = torch.randn_like(x)
    leaves = [x, *model.parameters()]
    values = [form(x) for form in (model, model.plain)]
    torch.testing.assert_close(*values)
    fast, plain = (torch.autograd.grad((value * weights).sum(), leaves) for value in values)
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other)


def test_strided_positions_and_gradients(float64):
    model = MLP(4)
    x = torch.randn(3, 5, 4).transpose(0, 1).requires_grad_()
    fast, plain = (torch.autograd.grad(form(x).transpose(0, 1).sum(), x)[0] for form in (model, model.plain))
    torch.testing.assert_close(fast, plain)
