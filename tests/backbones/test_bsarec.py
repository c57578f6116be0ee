import math

import pytest
import torch

from recsys_lt.backbones.bsarec import EVERYWHERE, BSARec, attention_mask
from recsys_lt.backbones.layers import is_event
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.errors import UserError


def test_size_and_rows(beauty, parameter_count):
    model = BSARec(beauty)
    # Items and positions, and per block four d x d maps, beta, three layer norms, the feed-forward.
    block = 4 * (64 * 64 + 64) + 64 + 3 * 128 + 2 * 64 * 256 + 256 + 64
    assert parameter_count(model) == (12101 + 1 + 50) * 64 + 128 + 2 * block
    assert model.task == Prefixes(max_length=50, recent=True)
    assert model.output_table().weight is model.items.weight


def test_rows_stand_alone(facts, check_rows_stand_alone, float64):
    check_rows_stand_alone(BSARec(facts, width=8, heads=2, max_length=7, attention_dropout=0.3))


def test_no_history(facts, check_no_history, float64):
    check_no_history(BSARec(facts, width=8, max_length=6))


def textbook_block(block, x, additive_mask, cutoff):
    """The published block over all positions: FFT there and back, -1e4 added to forbidden scores."""
    length, heads = x.shape[1], block.attention.heads
    spectrum = torch.fft.rfft(x, dim=1, norm="ortho")
    keep = torch.arange(spectrum.shape[1]).lt(cutoff // 2 + 1).view(1, -1, 1)
    low = torch.fft.irfft(spectrum * keep, n=length, dim=1, norm="ortho")
    frequency = block.frequency.norm(x + low + block.frequency.beta**2 * (x - low))
    outputs = []
    for q, k, v in zip(
        *(f(x).chunk(heads, 2) for f in (block.attention.query, block.attention.key, block.attention.value)),
        strict=True,
    ):
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2]) + additive_mask
        outputs.append(scores.softmax(2) @ v)
    attention = block.attention.norm(x + block.attention.out(torch.cat(outputs, 2)))
    z = block.alpha * frequency + (1 - block.alpha) * attention
    return block.feed_forward.norm(z + block.feed_forward.mlp.plain(z))


@pytest.mark.parametrize(("length", "cutoff", "heads"), [(2, 5, 1), (7, 3, 2), (50, 5, 1)])
def test_reading_the_end_alone_equals_the_whole(
    facts, make_batch, histories, left_padded, assert_same_with_gradients, float64, length, cutoff, heads
):
    model = BSARec(facts, width=8, blocks=3, heads=heads, max_length=length, cutoff=cutoff, dropout=0.0)
    rows = histories(6, length)
    real = torch.tensor([[False] * (length - len(row)) + [True] * len(row) for row in rows])
    mask = torch.where(torch.tril(real[:, None].expand(-1, length, -1)), 0.0, -1e4)

    def whole():
        x = left_padded(model.items.weight, model.items.pad, rows, length) + model.positions.weight
        x = model.norm(x)
        for block in model.blocks:
            x = textbook_block(block, x, mask, cutoff)
        return x[:, -1]

    assert_same_with_gradients(model, lambda: model.states(make_batch(rows)), whole)


def test_attention_is_causal_and_ignores_pads(facts, make_batch, float64):
    attention = BSARec(facts, width=8, heads=2, max_length=6, dropout=0.0).blocks[0].attention
    batch = make_batch([[1, 2, 3, 4]])
    events = is_event(batch, 6)
    assert events.tolist() == [[False, False, True, True, True, True]]
    x = torch.randn(1, 6, 8, requires_grad=True)
    out = attention(x, attention_mask(events), batch.streams, EVERYWHERE)
    for query in range(2, 6):
        (reads,) = torch.autograd.grad(out[0, query].norm(), x, retain_graph=True)
        assert reads[0].ne(0).any(1).tolist() == [2 <= key <= query for key in range(6)]


def test_initial_weights(beauty):
    model = BSARec(beauty)
    assert model.items.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.positions.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for block in model.blocks:
        assert block.attention.query.weight.std().item() == pytest.approx(1 / 8, rel=0.05)
        assert not block.feed_forward.mlp[2].bias.any()
        assert 0.6 < block.frequency.beta.std().item() < 1.4


def test_half_precision_autocast(facts, make_batch, histories):
    model = BSARec(facts, dropout=0.0)
    batch = make_batch(histories(4, 50))
    with torch.autocast("cpu", torch.bfloat16):
        half = model.states(batch)
    torch.testing.assert_close(half.float(), model.states(batch), rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 0},
        {"heads": 3},
        {"heads": 0},
        {"blocks": 0},
        {"max_length": 0},
        {"max_length": 1},
        {"alpha": 1.5},
        {"cutoff": -1},
        {"dropout": 1.0},
        {"attention_dropout": -1},
    ],
)
def test_nonsense_is_refused(facts, wrong):
    with pytest.raises(UserError):
        BSARec(facts, **wrong)
