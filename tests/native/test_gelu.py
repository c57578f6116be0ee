import torch
import torch.nn.functional as F

from recsys_lt.native.gelu import gelu_, gelu_backward_


def test_values_and_slopes_are_those_of_float64(compiled):
    z = torch.cat([torch.linspace(-14, 14, 100_003), torch.tensor([0.0, -0.0, 1e-30, -1e-30, 300.0, -300.0])])
    exact = z.double().requires_grad_()
    F.gelu(exact).sum().backward()
    alone, both, slope = z.clone(), z.clone(), torch.ones_like(z)
    gelu_(compiled, alone)
    gelu_backward_(compiled, both, slope)
    assert torch.equal(alone, both)
    torch.testing.assert_close(both.double(), F.gelu(exact).detach(), atol=4e-7, rtol=4e-7)
    torch.testing.assert_close(slope.double(), exact.grad, atol=1e-6, rtol=0)


def test_what_is_not_a_number_stays_so(compiled):
    z, by = torch.tensor([float("nan")]), torch.ones(1)
    gelu_backward_(compiled, z, by)
    assert z.isnan().all()
    assert by.isnan().all()
