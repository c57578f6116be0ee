import pytest
import torch
import torch.nn.functional as F

from recsys_lt.backbones.lrurec import LinearRecurrentUnit, LRURec
from recsys_lt.backbones.recurrence import LinearRecurrence, Steps
from recsys_lt.data.tasks.next_item import EveryPosition
from recsys_lt.errors import UserError

L = 40  # more than two pieces


def make(facts, **changes):
    torch.manual_seed(2)
    return LRURec(facts, **({"width": 8, "max_length": L, "dropout": 0.0} | changes))


def padded_reference(model, rows, length=64):
    """The published model, written down from the specification: left-padded, complex maps, pads handing on nothing."""
    ids = torch.tensor([[0] * (length - len(row)) + row for row in rows])
    real = torch.tensor([[False] * (length - len(row)) + [True] * len(row) for row in rows])
    x = model.norm(model.items(ids))
    for block in model.blocks:
        unit = block.unit
        nu, theta, gamma = unit.nu_log.exp(), unit.theta_log.exp(), unit.gamma_log.exp()
        decay = torch.exp(torch.complex(-nu, theta))
        into = torch.complex(unit.into.weight[0::2], unit.into.weight[1::2])
        bias = torch.complex(unit.into.bias[0::2], unit.into.bias[1::2])
        out_of = torch.complex(unit.out_of.weight[:, 0::2], -unit.out_of.weight[:, 1::2])
        u = (x.to(into.dtype) @ into.T + bias) * gamma
        h, hidden = torch.zeros_like(u[:, 0]), []
        for t in range(length):
            h = (decay * h + u[:, t]) * real[:, t : t + 1]
            hidden.append(h)
        y = (torch.stack(hidden, 1) @ out_of.T).real + unit.out_of.bias
        x = F.layer_norm(x + y, (x.shape[2],), block.unit_norm.weight, block.unit_norm.bias)
        y = F.linear(F.gelu(block.inner(x)), block.outer.weight, block.outer.bias)
        x = F.layer_norm(x + y, (x.shape[2],), block.outer_norm.weight, block.outer_norm.bias)
    return x[real]


def test_equals_the_padded_reference_in_value_and_gradient(
    facts, make_batch, histories, assert_same_with_gradients, float64
):
    model = make(facts)
    rows = histories(9, L)
    batch = make_batch(rows)
    assert_same_with_gradients(model, lambda: model.states(batch), lambda: padded_reference(model, rows))


def test_single_precision_is_near_the_padded_reference(facts, make_batch, histories):
    model = make(facts)
    rows = histories(9, L)
    batch = make_batch(rows)
    near, exact = model.states(batch), padded_reference(model, rows)
    torch.testing.assert_close(near, exact, rtol=1e-3, atol=1e-4)
    by = torch.linspace(-1, 1, near.numel()).view_as(near)
    used = [p for name, p in model.named_parameters() if name != "out_bias"]
    for one, other in zip(*(torch.autograd.grad((x * by).sum(), used) for x in (near, exact)), strict=True):
        assert (one - other).norm() <= 1e-3 * other.norm()


def test_is_causal(facts, make_batch, float64):
    model = make(facts)
    before, after = (model.states(make_batch([[*range(20), item, *range(9)]])) for item in (3, 7))
    torch.testing.assert_close(before[:20], after[:20], rtol=0, atol=0)
    assert not torch.isclose(before[20:], after[20:]).all(1).any()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_rows_stand_alone(facts, make_batch, histories, float64, dropout):
    """States, dropout included, are the same in any company and order; asking again is pure."""
    model = make(facts, dropout=dropout)
    rows = histories(9, L)
    states = model.states(make_batch(rows))
    assert torch.equal(states, model.states(make_batch(rows)))
    assert torch.allclose(states, model.states(make_batch(rows, epoch=1))) == (dropout == 0)
    together = states.split([len(row) for row in rows])
    order = [4, 0, 8, 2, 6, 1, 7, 3, 5]
    shuffled = model.states(make_batch([rows[r] for r in order], rows=order))
    torch.testing.assert_close(shuffled, torch.cat([together[r] for r in order]))
    for r in (0, 1, 5):
        torch.testing.assert_close(model.states(make_batch([rows[r]], rows=[r])), together[r])


@pytest.mark.parametrize(("blocks", "dropout"), [(1, 0.0), (2, 0.5)])
def test_user_states_are_the_last_positions(facts, make_batch, histories, float64, blocks, dropout):
    model = make(facts, blocks=blocks, dropout=dropout)
    batch = make_batch(histories(9, L))
    torch.testing.assert_close(model.user_states(batch), model.states(batch)[batch.offsets[1:] - 1])


def test_no_history(facts, check_no_history, float64):
    check_no_history(make(facts))


def test_dropout_falls_on_embeddings_before_their_norm(facts, make_batch, histories, float64):
    model = make(facts, dropout=0.5)
    batch = make_batch(histories(6, 9))
    steps, x, _ = model._begun(batch)
    dropped = model.dropout(model.items(batch.items), batch.event_streams())
    assert 0.3 < (dropped == 0).double().mean() < 0.7
    torch.testing.assert_close(x[steps.places], model.norm(dropped))


def test_size_and_rows(beauty, parameter_count):
    model = LRURec(beauty)
    d, n = 64, beauty.n_items
    # A block: two matrices [d, 4d] for recurrence, two for feed-forward, their biases; two norms; nu, theta, gamma.
    assert parameter_count(model) == n * (d + 1) + 2 * d + 2 * (16 * d * d + 10 * d + 4 * d + 6 * d)
    assert model.task == EveryPosition(50)
    assert model.output_table().weight is model.items.weight
    assert model.output_table().bias is model.out_bias


def test_initial_weights(beauty):
    torch.manual_seed(0)
    model = LRURec(beauty)
    for weight in (model.items.weight, model.out_bias, model.blocks[1].unit.into.weight, model.blocks[0].outer.bias):
        assert weight.abs().max() <= 0.04
        assert weight.std().item() == pytest.approx(0.0176, rel=0.15)  # of a normal cut at two deviations of 0.02
    unit = LinearRecurrentUnit(2000)
    decay, gamma = unit.decay().detach(), unit.gamma_log.exp()
    modulus, phase = decay.abs(), unit.theta_log.exp()
    assert modulus.min() >= 0.8 - 1e-6
    assert modulus.max() <= 0.99 + 1e-6
    assert (modulus**2).mean().item() == pytest.approx((0.8**2 + 0.99**2) / 2, rel=0.01)  # even over the ring's area
    assert (phase.min() > 0, phase.max() <= 6.2832) == (True, True)
    assert phase.mean().item() == pytest.approx(3.1416, rel=0.05)
    torch.testing.assert_close(gamma**2 + modulus**2, torch.ones(4000))
    with torch.no_grad():  # within the unit circle wherever training takes it
        unit.nu_log.uniform_(-5, 5)
    assert unit.decay().abs().max() < 1


def test_gradients_reach_every_parameter(facts, make_batch, histories):
    model = make(facts, dropout=0.2)
    batch = make_batch(histories(9, L))
    table = model.output_table()
    F.cross_entropy(model.states(batch) @ table.weight.T + table.bias, batch.items).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero() > 0, name


@pytest.mark.parametrize("wrong", [{"width": 0}, {"blocks": 0}, {"max_length": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_nonsense_is_refused(facts, wrong):
    with pytest.raises(UserError):
        make(facts, **wrong)


# The recurrence on its own.

LENGTHS = [(3, 1, 5), (0, 4, 0), (1,), (9, 9, 2, 13, 8, 4, 0, 20), (16, 33, 17), (200, 1, 64), ()]


def drawn(count, kind, width=6):
    """Inputs, and decays as an initial unit has them."""
    real = torch.empty(0, dtype=kind).real.dtype
    u = torch.randn(count, width, dtype=kind, requires_grad=True)
    size, phase = torch.rand(2, width, dtype=real)
    decay = 0.8 + 0.19 * size
    return u, (torch.polar(decay, 6.28 * phase) if kind.is_complex else decay).requires_grad_()


def plain_linear_recurrence(u, decay, lengths):
    """The textbook loop, row by row, gradients by autograd."""
    states = []
    for row in u.split(lengths):
        h = torch.zeros_like(decay)
        for step in row:
            h = decay * h + step
            states.append(h)
    return torch.stack(states) if states else u.clone()


def both(lengths, piece, kind):
    """[fast, plain], each with its values and the gradients by inputs and decay."""
    u, decay = drawn(sum(lengths), kind)
    steps = Steps.of(lengths, u.device, piece)
    values = [
        LinearRecurrence.apply(u[steps.order], decay, steps)[steps.places],
        plain_linear_recurrence(u, decay, lengths),
    ]
    by = torch.randn_like(values[0])
    return [
        (value, *torch.autograd.grad((value * by).real.sum(), (u, decay), materialize_grads=True)) for value in values
    ]


@pytest.mark.parametrize("piece", [1, 2, 4, 16, 300])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_the_recurrence_equals_the_plain_loop(lengths, piece):
    for kind in (torch.complex128, torch.float64):
        for one, other in zip(*both(lengths, piece, kind), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_the_recurrence_in_single_precision_is_near(lengths):
    for one, other in zip(*both(lengths, 16, torch.complex64), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_single_precision_holds_over_long_rows():
    """Against double precision, where memory is longest: no error is blown up on the way through 2,000 events."""
    torch.manual_seed(0)
    u, phase = torch.randn(2000, 8, dtype=torch.complex128), 6.28 * torch.rand(8, dtype=torch.float64)
    decay = torch.polar(torch.full_like(phase, 0.999), phase)
    steps = Steps.of((2000,), u.device)
    exact = LinearRecurrence.apply(u, decay, steps)
    near = LinearRecurrence.apply(u.to(torch.complex64), decay.to(torch.complex64), steps)
    assert (near - exact).abs().max() < 1e-4 * exact.abs().max()


def test_conjugate_and_broadcast_gradients_of_the_recurrence():
    u, decay = drawn(7, torch.complex128)
    steps = Steps.of((5, 2), u.device, 2)
    (lazy,) = torch.autograd.grad(LinearRecurrence.apply(u, decay, steps).conj().sum().real, u)
    (explicit,) = torch.autograd.grad((LinearRecurrence.apply(u, decay, steps) * torch.ones(7, 6)).real.sum(), u)
    torch.testing.assert_close(lazy, explicit)


def test_the_recurrence_visits_every_event_once():
    steps = Steps.of((5, 0, 2, 7), torch.device("cpu"), 3)
    assert sorted(steps.order.tolist()) == list(range(14))
    assert steps.order[steps.places].tolist() == list(range(14))
    assert steps.running == (6, 5, 3)
    # Pieces of 3, 2; 2; 3, 3, 1 events, longest first 0, 3; 4; 1, 2, 5. The row of three goes first.
    assert steps.handing == (2, 1)
    assert list(zip(steps.giving.tolist(), steps.taking.tolist(), strict=True)) == [(1, 2), (0, 3), (2, 5)]
