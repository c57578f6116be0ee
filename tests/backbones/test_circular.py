import pytest
import torch

from recsys_lt.backbones.fmlp_rec import SpectralFilter


@pytest.mark.parametrize("length", [1, 2, 7, 50, 257])
def test_products_equal_the_fft(float64, length):
    convolve = SpectralFilter(length)
    x = torch.randn(3, length, 4, requires_grad=True)
    weights = torch.randn(1, length // 2 + 1, 4, 2, requires_grad=True)
    by = torch.randn(3, length, 4)
    values = [form(x, weights) for form in (convolve, convolve.plain)]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(convolve.last(x, weights), values[1][:, -1:])
    fast, plain = (torch.autograd.grad((value * by).sum(), (x, weights)) for value in values)
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other)


def test_float32_is_as_exact_as_the_fft():
    convolve = SpectralFilter(50)
    x, weights = torch.randn(8, 50, 16), torch.randn(1, 26, 16, 2)
    exact = SpectralFilter(50).double().plain(x.double(), weights.double())
    assert (convolve(x, weights) - exact).abs().max() < 4 * (convolve.plain(x, weights) - exact).abs().max()


def test_only_the_weights_or_only_x_want_a_gradient(float64):
    convolve = SpectralFilter(6)
    x, weights = torch.randn(2, 6, 3), torch.randn(1, 4, 3, 2)
    (alone,) = torch.autograd.grad(convolve(x, weights.requires_grad_()).sum(), weights)
    (by_x,) = torch.autograd.grad(convolve(x.requires_grad_(), weights.detach()).sum(), x)
    both = torch.autograd.grad(convolve(x, weights).sum(), (x, weights))
    torch.testing.assert_close((by_x, alone), both)


def test_a_long_window_keeps_no_matrices():
    assert list(SpectralFilter(257).buffers()) == []
