import pytest
import torch

from recsys_lt.backbones import caser
from recsys_lt.backbones.caser import Caser
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.errors import UserError


def test_size_and_rows_are_the_published_ones(beauty, parameter_count):
    model = Caser(beauty)
    assert parameter_count(model) == pytest.approx(3.80e6, rel=0.02)
    assert model.task == Prefixes(max_length=5, min_length=5)
    assert model.output_table().weight.shape == (12101, 128)
    assert model.output_table().bias.shape == (12101,)


def test_rows_stand_alone(facts, check_rows_stand_alone, float64):
    check_rows_stand_alone(Caser(facts, width=8, horizontal=4))


def test_no_history(facts, check_no_history, float64):
    check_no_history(Caser(facts, width=8))


def plain_caser(model, batch, window):
    """The published equations, one filter, one place and one row at a time."""
    states = []
    for image, user in zip(window, batch.users, strict=True):
        length = len(image)
        vertical = [
            (kernel[0] * image).sum(0) + bias
            for kernel, bias in zip(model.vertical.weight, model.vertical.bias, strict=True)
        ]
        horizontal = [
            torch.stack(
                [((kernel[0] * image[t : t + height]).sum() + bias).relu() for t in range(length - height + 1)]
            ).max()
            for height, conv in enumerate(model.horizontal, start=1)
            for kernel, bias in zip(conv.weight, conv.bias, strict=True)
        ]
        features = torch.cat([*vertical, torch.stack(horizontal)])
        history = (model.dense.weight @ features + model.dense.bias).relu()
        states.append(torch.cat([history, model.users.weight[user]]))
    return torch.stack(states)


def test_equals_a_plain_loop(facts, make_batch, histories, left_padded, assert_same_with_gradients, float64):
    model = Caser(facts, width=6, vertical=2, horizontal=3, dropout=0.0)
    rows = histories(7, 5)
    batch = make_batch(rows)
    assert_same_with_gradients(
        model,
        lambda: model.states(batch),
        lambda: plain_caser(model, batch, left_padded(model.items.weight, model.items.pad, rows, 5)),
    )


@pytest.mark.parametrize("largest", [0, 1 << 20])
def test_one_product_equals_the_convolutions(monkeypatch, facts, make_batch, histories, float64, largest):
    """Dropout included: its masks lie on the same features."""
    monkeypatch.setattr(caser, "_LARGEST_MATRIX", largest)
    model = Caser(facts, width=6, vertical=2, horizontal=3, dropout=0.5)
    batch = make_batch(histories(9, 5))
    image = model.items(batch, 5).unsqueeze(1)
    across = [conv(image).squeeze(3).relu().amax(2) for conv in model.horizontal]
    features = torch.cat([model.vertical(image).flatten(1), *across], 1)
    history = model.dense(model.dropout(features, batch.streams)).relu()
    plain = torch.cat([history, model.users(batch.users)], 1)
    torch.testing.assert_close(model.states(batch), plain)
    weights = torch.randn_like(plain)
    fast, slow = (
        torch.autograd.grad((states * weights).sum(), list(model.parameters()), allow_unused=True)
        for states in (model.states(batch), plain)
    )
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other)


def test_initial_weights(beauty):
    model = Caser(beauty)
    for table in (model.items.weight, model.users.weight, model.out_weight):
        assert table.std().item() == pytest.approx(1 / 64, rel=0.02)
    assert not model.out_bias.any()
    assert not model.dense.bias.any()
    assert model.dense.weight.std().item() == pytest.approx((2 / (336 + 64)) ** 0.5, rel=0.05)


def test_the_pad_is_not_learned_but_decays(facts, make_batch):
    """As in the reference: its gradient is zero, not absent, so coupled weight decay shrinks it."""
    model = Caser(facts, dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=5e-4)
    model.states(make_batch([[1], [2, 3]])).sum().backward()
    assert model.items.pad.grad is not None
    assert not model.items.pad.grad.any()
    before = model.items.pad.norm().item()
    optimizer.step()
    assert 0 < model.items.pad.norm().item() < before


def test_too_long_a_history_is_not_silently_cut(facts, make_batch):
    with pytest.raises(ValueError, match="6 events in a window of 5"):
        Caser(facts).states(make_batch([[1, 2, 3, 4, 5, 6]]))


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"max_length": 0}, {"vertical": 0}, {"horizontal": 0}, {"dropout": -0.1}]
)
def test_nonsense_is_refused(facts, wrong):
    with pytest.raises(UserError):
        Caser(facts, **wrong)
