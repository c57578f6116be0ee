import pytest
import torch

from recsys_lt.backbones.lrurec import Steps, linear_recurrence, plain_linear_recurrence

LENGTHS = [(3, 1, 5), (0, 4, 0), (1,), (9, 9, 2, 13, 8, 4, 0, 20), (16, 33, 17), (200, 1, 64), ()]


def drawn(count, kind, width=6):
    """Inputs, and decays as an initial unit has them."""
    real = torch.empty(0, dtype=kind).real.dtype
    u = torch.randn(count, width, dtype=kind, requires_grad=True)
    size, phase = torch.rand(2, width, dtype=real)
    decay = 0.8 + 0.19 * size
    return u, (torch.polar(decay, 6.28 * phase) if kind.is_complex else decay).requires_grad_()


def both(lengths, piece, kind):
    """[fast, plain], each with its values and the gradients by inputs and decay."""
    u, decay = drawn(sum(lengths), kind)
    steps = Steps.of(lengths, u.device, piece)
    values = [
        linear_recurrence(u[steps.order], decay, steps)[steps.places],
        plain_linear_recurrence(u, decay, lengths),
    ]
    by = torch.randn_like(values[0])
    return [
        (value, *torch.autograd.grad((value * by).real.sum(), (u, decay), materialize_grads=True)) for value in values
    ]


@pytest.mark.parametrize("piece", [1, 2, 4, 16, 300])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_equals_the_plain_loop(lengths, piece):
    for kind in (torch.complex128, torch.float64):
        for one, other in zip(*both(lengths, piece, kind), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_single_precision_is_near(lengths):
    for one, other in zip(*both(lengths, 16, torch.complex64), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_single_precision_holds_over_long_rows():
    """Against double precision, where memory is longest: no error is blown up on the way through 2,000 events."""
    torch.manual_seed(0)
    u, phase = torch.randn(2000, 8, dtype=torch.complex128), 6.28 * torch.rand(8, dtype=torch.float64)
    decay = torch.polar(torch.full_like(phase, 0.999), phase)
    steps = Steps.of((2000,), u.device)
    exact = linear_recurrence(u, decay, steps)
    near = linear_recurrence(u.to(torch.complex64), decay.to(torch.complex64), steps)
    assert (near - exact).abs().max() < 1e-4 * exact.abs().max()


def test_conjugate_and_broadcast_gradients():
    u, decay = drawn(7, torch.complex128)
    steps = Steps.of((5, 2), u.device, 2)
    (lazy,) = torch.autograd.grad(linear_recurrence(u, decay, steps).conj().sum().real, u)
    (explicit,) = torch.autograd.grad((linear_recurrence(u, decay, steps) * torch.ones(7, 6)).real.sum(), u)
    torch.testing.assert_close(lazy, explicit)


def test_the_walk_visits_every_event_once():
    steps = Steps.of((5, 0, 2, 7), torch.device("cpu"), 3)
    assert sorted(steps.order.tolist()) == list(range(14))
    assert steps.order[steps.places].tolist() == list(range(14))
    assert steps.running == (6, 5, 3)
    # Pieces of 3, 2; 2; 3, 3, 1 events, longest first 0, 3; 4; 1, 2, 5. The row of three goes first.
    assert steps.handing == (2, 1)
    assert list(zip(steps.giving.tolist(), steps.taking.tolist(), strict=True)) == [(1, 2), (0, 3), (2, 5)]
