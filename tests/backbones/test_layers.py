"""Dropout whose mask is a row's own, and the feed-forward layer in chunks."""

from unittest import mock

import pytest
import torch

from recsys_lt.backbones import layers
from recsys_lt.backbones.layers import MLP, RowDropout
from recsys_lt.data.streams import key_of, keys_of
from recsys_lt.errors import UserError

PROBABILITIES = [0.1, 0.5, 0.6, 0.9]
KEYS = keys_of(key_of(5), torch.arange(400))


@pytest.mark.parametrize("p", PROBABILITIES)
def test_rate(p):
    kept = RowDropout(p, salt=0).kept(500, KEYS)
    n = kept.numel()
    assert kept.shape == (400, 500)
    assert kept.double().mean() == pytest.approx(1 - p, abs=4 * (p * (1 - p) / n) ** 0.5)
    # Rows and columns are alike.
    assert (kept.double().mean(0) - (1 - p)).abs().max() < 5 * (p * (1 - p) / 400) ** 0.5
    assert (kept.double().mean(1) - (1 - p)).abs().max() < 5 * (p * (1 - p) / 500) ** 0.5


@pytest.mark.parametrize("p", [1e-5, *PROBABILITIES, 1 / 3, 0.99999, 1 - 1e-9])
def test_the_expectation_is_exact(p):
    """Over all the values that a lane takes, survivors times their scale are the whole."""
    every = torch.arange(-32768, 32768).to(torch.int16).view(1, -1)
    dropout = RowDropout(p, salt=0)
    with mock.patch("recsys_lt.backbones.layers.lanes", return_value=every):
        kept = dropout.kept(65536, KEYS[:1])
    assert kept.sum() * dropout.scale == pytest.approx(65536, rel=1e-12)
    assert kept.any()
    assert (~kept).double().mean() == pytest.approx(p, abs=2**-16)


@pytest.mark.parametrize("p", PROBABILITIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_and_gradients(p, dtype):
    dropout = RowDropout(p, salt=3).train()
    x = torch.randn(400, 4, 5, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    y = dropout(x, KEYS)
    factor = dropout.kept(20, KEYS).view(400, 4, 5).to(dtype) * dropout.scale
    torch.testing.assert_close(y, x * factor)
    gradient = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    torch.testing.assert_close(torch.autograd.grad(y, x, gradient)[0], gradient * factor)
    assert y.dtype == dtype


def test_one_number_a_row():
    y = RowDropout(0.5, salt=0).train()(torch.ones(400), KEYS)
    assert y.shape == (400,)
    assert set(y.tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_no_probability(p):
    with pytest.raises(UserError, match=r"dropout is .*probability in \[0, 1\)"):
        RowDropout(p, salt=0)


def test_identity_in_evaluation_and_without_dropout():
    x = torch.randn(400, 6)
    assert RowDropout(0.5, salt=0).eval()(x, KEYS) is x
    assert RowDropout(0.0, salt=0).train()(x, KEYS) is x


def test_a_row_has_its_own_mask_whoever_asks_and_however_often():
    dropout = RowDropout(0.5, salt=0)
    x = torch.randn(400, 6)
    before = torch.get_rng_state()
    together = dropout(x, KEYS)
    assert torch.equal(together, dropout(x, KEYS))
    assert torch.equal(torch.get_rng_state(), before)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))[:100]
    assert torch.equal(dropout(x[order], KEYS[order]), together[order])


def test_rows_layers_and_epochs_have_masks_of_their_own():
    first = RowDropout(0.5, salt=0).kept(300, KEYS)
    n = first.numel()
    for other in (
        RowDropout(0.5, salt=1).kept(300, KEYS),
        RowDropout(0.5, salt=0).kept(300, keys_of(key_of(6), torch.arange(400))),
        first.roll(1, 0),
        first.roll(1, 1),
    ):
        assert (first == other).double().mean() == pytest.approx(0.5, abs=4 * 0.5 / n**0.5)


def test_streams_of_rows_and_events(make_batch):
    histories = [[3, 4, 5], [], [6], [7, 8]]
    batch = make_batch(histories)
    rows, events = batch.streams, batch.event_streams()
    assert rows.shape == (4,)
    assert events.shape == (6,)
    assert len(torch.cat([rows, events]).unique()) == 10
    turned = make_batch(histories[::-1], rows=[3, 2, 1, 0])
    assert torch.equal(turned.streams, rows.flip(0))
    # An event is its row and its place: events 0..2 of row 0 come last when the batch is turned round.
    assert torch.equal(turned.event_streams()[-3:], events[:3])
    assert torch.equal(turned.event_streams()[:2], events[-2:])
    assert not torch.isin(make_batch(histories, epoch=1).event_streams(), events).any()
    # What the items are makes no difference; a longer history keeps the streams of its first events.
    assert torch.equal(make_batch([[9, 9, 9, 9]]).event_streams()[:3], events[:3])


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
