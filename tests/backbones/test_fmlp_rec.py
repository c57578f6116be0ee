import pytest
import torch

from recsys_lt.backbones.fmlp_rec import FilterBlock, FMLPRec, SpectralFilter
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.errors import UserError


def test_size_and_rows_are_the_published_ones(beauty, parameter_count):
    model = FMLPRec(beauty)
    assert parameter_count(model) == pytest.approx(0.92e6, rel=0.02)
    assert model.task == Prefixes(max_length=50, recent=True)
    assert model.output_table().weight is model.items.weight


def test_rows_stand_alone(facts, check_rows_stand_alone, float64):
    check_rows_stand_alone(FMLPRec(facts, width=8, blocks=2, max_length=7))


def test_no_history(facts, check_no_history, float64):
    check_no_history(FMLPRec(facts, width=8, blocks=2, max_length=6))


@pytest.mark.parametrize("length", [1, 7, 50])
def test_a_filter_of_ones_is_the_identity(length, float64):
    block = FilterBlock(width=4, length=length, dropout=0.0, salt=0)
    with torch.no_grad():
        block.filter[..., 0], block.filter[..., 1] = 1, 0
    x = torch.randn(3, length, 4)
    torch.testing.assert_close(block.convolve(x, block.filter), x)
    torch.testing.assert_close(block.convolve.last(x, block.filter), x[:, -1:])


def textbook_block(block, x):
    spectrum = torch.fft.rfft(x, dim=1, norm="ortho") * torch.view_as_complex(block.filter)
    x = block.filter_norm(x + torch.fft.irfft(spectrum, n=x.shape[1], dim=1, norm="ortho"))
    return block.mlp_norm(x + block.mlp.plain(x))


@pytest.mark.parametrize("length", [2, 7, 50])
def test_reading_the_end_alone_equals_the_whole(
    facts, make_batch, histories, left_padded, assert_same_with_gradients, float64, length
):
    model = FMLPRec(facts, width=8, blocks=3, max_length=length, dropout=0.0)
    rows = histories(6, length)

    def whole():
        x = left_padded(model.items.weight, model.items.pad, rows, length) + model.positions.weight
        x = model.norm(x)
        for block in model.blocks:
            x = textbook_block(block, x)
        return x[:, -1]

    assert_same_with_gradients(model, lambda: model.states(make_batch(rows)), whole)


def test_initial_weights(beauty):
    model = FMLPRec(beauty)
    assert model.items.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.positions.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for block in model.blocks:
        assert block.mlp[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not block.mlp[0].bias.any()
        assert block.filter.std().item() == pytest.approx(0.02, rel=0.05)
        assert torch.equal(block.filter, model.blocks[0].filter)  # copies of one block, in the reference
    assert not torch.equal(model.blocks[0].mlp[0].weight, model.blocks[1].mlp[0].weight)


def test_half_precision_autocast(facts, make_batch, histories):
    model = FMLPRec(facts, dropout=0.0)
    batch = make_batch(histories(4, 50))
    with torch.autocast("cpu", torch.bfloat16):
        half = model.states(batch)
    torch.testing.assert_close(half.float(), model.states(batch), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"blocks": 0}, {"max_length": 0}, {"max_length": 1}, {"dropout": 1.0}])
def test_nonsense_is_refused(facts, wrong):
    with pytest.raises(UserError):
        FMLPRec(facts, **wrong)


@pytest.mark.parametrize("length", [1, 2, 7, 50, 257])
def test_a_filter_by_products_equals_the_fft(float64, length):
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


def test_a_filter_in_float32_is_as_exact_as_the_fft():
    convolve = SpectralFilter(50)
    x, weights = torch.randn(8, 50, 16), torch.randn(1, 26, 16, 2)
    exact = SpectralFilter(50).double().plain(x.double(), weights.double())
    assert (convolve(x, weights) - exact).abs().max() < 4 * (convolve.plain(x, weights) - exact).abs().max()


def test_a_long_window_keeps_no_matrices():
    assert list(SpectralFilter(257).buffers()) == []
