from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from recsys_lt.backbones.gru4rec import GRU4Rec
from recsys_lt.backbones.recurrence import GRULayer
from recsys_lt.data.tasks.next_item import OnePass, Prefixes
from recsys_lt.errors import UserError


def test_size_and_rows_are_the_published_ones(beauty, parameter_count):
    model = GRU4Rec(beauty)
    assert parameter_count(model) == pytest.approx(0.80e6, rel=0.02)
    assert model.task == Prefixes(max_length=50)
    assert model.output_table().weight is model.items.weight
    assert model.output_table().bias is None


def test_rows_stand_alone(facts, check_rows_stand_alone, float64):
    check_rows_stand_alone(GRU4Rec(facts, width=8, max_length=7))


def test_no_history(facts, check_no_history, float64):
    check_no_history(GRU4Rec(facts, width=8))


@pytest.mark.parametrize("layers", [1, 2])
def test_packing_equals_a_loop_over_rows(facts, make_batch, histories, assert_same_with_gradients, float64, layers):
    model = GRU4Rec(facts, width=8, layers=layers, dropout=0.0)
    rows = histories(12, 20)

    def loop():
        return torch.stack([model.dense(model.gru(model.items(torch.tensor(row)))[0][-1]) for row in rows])

    assert_same_with_gradients(model, lambda: model.states(make_batch(rows)), loop)


def test_dropout_falls_on_embeddings_event_by_event(facts, make_batch, histories, float64):
    model = GRU4Rec(facts, width=8, dropout=0.5)
    rows = histories(6, 9)
    batch = make_batch(rows)
    dropped = model.dropout(model.items(batch.items), batch.event_streams()).split(batch.lengths)
    assert 0.3 < (torch.cat(dropped) == 0).double().mean() < 0.7
    expected = torch.stack([model.dense(model.gru(x)[0][-1]) for x in dropped])
    torch.testing.assert_close(model.states(batch), expected)


@pytest.mark.parametrize("layers", [1, 2])
def test_one_pass_equals_the_roll_out(facts, make_batch, histories, assert_same_with_gradients, float64, layers):
    """States and gradients after every event, and after a row's end alone, are those of the prefixes as rows."""
    model = GRU4Rec(facts, width=8, layers=layers, dropout=0.0, max_length=9, one_pass=True)
    assert model.task == OnePass(9)
    rows = histories(6, 9)
    whole = make_batch(rows)
    ends = {2, 4}  # rows supervised at their end alone
    at = [n for r, row in enumerate(rows) for n in range(len(row)) if r not in ends or n == len(row) - 1]
    events = torch.tensor(at) + torch.repeat_interleave(
        whole.offsets[:-1], torch.tensor([1 if r in ends else len(row) for r, row in enumerate(rows)])
    )
    prefixes = [row[:n] for r, row in enumerate(rows) for n in range(len(row) if r in ends else 1, len(row) + 1)]
    one_pass = replace(whole, targets=torch.zeros(len(at), dtype=torch.int64), target_events=events)
    assert one_pass.rows_of_targets().bincount().tolist() == [1 if r in ends else len(rows[r]) for r in range(6)]
    assert_same_with_gradients(
        model, lambda: model.states(one_pass), lambda: GRU4Rec.states(model, make_batch(prefixes))
    )


def test_float32_and_dropout_as_torch_s_gru(facts, make_batch, histories, assert_same_with_gradients):
    """In float32, dropout included: the written-out recurrence against torch's on the same packed rows."""
    model = GRU4Rec(facts, width=8, dropout=0.4)
    batch = make_batch(histories(8, 20))

    def plain():
        x = model.dropout(model.items(batch.items), batch.event_streams()).split(batch.lengths)
        return torch.stack([model.dense(model.gru(row)[0][-1]) for row in x])

    assert_same_with_gradients(model, lambda: model.states(batch), plain)


def test_initial_weights(facts):
    model = GRU4Rec(facts)
    assert {name for name, _ in model.gru.named_parameters()} == {"weight_ih_l0", "weight_hh_l0"}
    bound = (6 / (64 + 3 * 64)) ** 0.5  # Xavier-uniform of a [192, 64] matrix
    assert 0.95 * bound < model.gru.weight_ih_l0.abs().max() <= bound
    assert model.items.weight.std().item() == pytest.approx((2 / (30 + 64)) ** 0.5, rel=0.1)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"layers": 0}, {"max_length": 0}, {"dropout": 1.0}])
def test_nonsense_is_refused(facts, wrong):
    with pytest.raises(UserError):
        GRU4Rec(facts, **wrong)


@pytest.mark.parametrize("running", [(5,), (4, 4, 4), (6, 3, 3, 1, 1, 1, 1), (1, 1, 1)])
def test_the_recurrence_equals_torch_s_gru(float64, running):
    """Values and gradients of every hidden state, with input and state of different widths."""
    plain = nn.GRU(5, 3, bias=False)
    x = torch.randn(sum(running), 5, requires_grad=True)
    leaves = [x, plain.weight_ih_l0, plain.weight_hh_l0]
    values = [GRULayer.apply(*leaves, running), plain(PackedSequence(x, torch.tensor(running)))[0].data]
    torch.testing.assert_close(*values)
    by = torch.randn_like(values[0])
    ours, theirs = (torch.autograd.grad((value * by).sum(), leaves) for value in values)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_broadcast_gradients_of_the_recurrence(float64):
    w_ih, w_hh = torch.randn(6, 2), torch.randn(6, 2)
    x = torch.randn(3, 2, requires_grad=True)
    (ours,) = torch.autograd.grad(GRULayer.apply(x, w_ih, w_hh, (2, 1)).sum(), x)
    (explicit,) = torch.autograd.grad((GRULayer.apply(x, w_ih, w_hh, (2, 1)) * torch.ones(3, 2)).sum(), x)
    torch.testing.assert_close(ours, explicit)
