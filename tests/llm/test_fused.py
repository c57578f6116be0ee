"""Parts in fewer passes are the parts of transformers and peft, to the rounding of bfloat16."""

import pytest
import torch
from torch.nn.functional import linear, silu

from recsys_lt.backbones.layers import RowDropout
from recsys_lt.data.streams import keys_of
from recsys_lt.llm import fused
from recsys_lt.native.functions import NativeGate, NativeRmsNorm, dropped
from recsys_lt.native.library import kernels
from tests.llm.test_language_model import EVEN, LENGTHS, read, stirred

needs_kernels = pytest.mark.skipif(kernels() is None, reason="no compiled kernels here")
FEED_FORWARD = "llm.lora.targets=[gate_proj,up_proj,down_proj]"
HALF = torch.bfloat16


def with_gradients(language, lengths, dropout: bool) -> list[torch.Tensor]:
    """Hidden states, and the gradients by what is read and by the adapters."""
    prompt, rows = (part.to(language.vocabulary.dtype).requires_grad_() for part in read(language, lengths=lengths))
    language.train(dropout)
    keys = keys_of(7, torch.arange(len(rows)))
    # As a run with bf16-mixed trains, in which peft's products are bfloat16 too.
    with torch.autocast("cpu", HALF, enabled=prompt.dtype == HALF):
        found = language.hidden(prompt, rows, lengths, keys, 5).float()
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    inputs = [prompt, rows, *(p for p in language.parameters() if p.requires_grad)]
    return [found.detach(), *(g.float() for g in torch.autograd.grad((found * direction).sum(), inputs))]


@needs_kernels
@pytest.mark.parametrize("dropout", [True, False])
@pytest.mark.parametrize("lengths", [LENGTHS, EVEN])
def test_a_language_model_in_fewer_passes_is_the_plain_one(tiny, monkeypatch, lengths, dropout) -> None:
    choices = (FEED_FORWARD, "llm.lora.dropout=0.3")
    exact = with_gradients(stirred(tiny(*choices).load()), lengths, dropout)
    language = stirred(tiny(*choices, "llm.dtype=bfloat16").load())
    fast = with_gradients(language, lengths, dropout)
    assert all(torch.equal(one, two) for one, two in zip(fast, with_gradients(language, lengths, dropout), strict=True))
    monkeypatch.setattr(fused, "usable", lambda *_tensors, dtype: None)
    plain = with_gradients(language, lengths, dropout)
    assert any((one != other).any() for one, other in zip(fast, plain, strict=True))  # another form did run
    for name, right, one, other in zip(range(99), exact, fast, plain, strict=False):
        wrong, allowed = (one - right).norm() / right.norm(), (other - right).norm() / right.norm()
        assert wrong <= 1.5 * allowed + 1e-3, name  # no less exact than in the plain form
        assert allowed < 0.1  # and that is the same computation


@needs_kernels
def test_other_dropout_is_another_answer(tiny) -> None:
    language = stirred(tiny(FEED_FORWARD, "llm.lora.dropout=0.3", "llm.dtype=bfloat16").load())
    one, other = with_gradients(language, EVEN, True), with_gradients(language, EVEN, False)
    assert (one[0] - other[0]).abs().max() > 0.01


@needs_kernels
def test_adapters_that_are_turned_off_add_nothing(tiny) -> None:
    language = stirred(tiny(FEED_FORWARD, "llm.dtype=bfloat16").load()).eval()
    bare = tiny(FEED_FORWARD, "llm.dtype=bfloat16").load().eval()  # peft's adapters begin as nothing
    prompt, rows = (part.to(HALF) for part in read(language))
    with torch.no_grad(), language.untuned():
        found = language.hidden(prompt, rows, LENGTHS)
    with torch.no_grad():
        assert torch.equal(found, bare.hidden(prompt, rows, LENGTHS))
        assert (found - language.hidden(prompt, rows, LENGTHS)).abs().max() > 0.01


@needs_kernels
def test_each_kernel_is_its_plain_form() -> None:
    generator = torch.Generator().manual_seed(4)
    x, up, weight = (torch.randn(s, generator=generator).mul(3).to(HALF) for s in ((37, 72), (37, 72), (72,)))
    x, up = x.requires_grad_(), up.requires_grad_()
    direction = torch.randn(37, 72, generator=generator).to(HALF)

    def plain_norm(x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(HALF)

    gates = [NativeGate.apply(x, up, kernels()), silu(x) * up]
    norms = [NativeRmsNorm.apply(x, weight, 1e-5, kernels()), plain_norm(x)]
    for fast, plain in (gates, norms):
        torch.testing.assert_close(fast, plain, rtol=1e-2, atol=1e-2)
        of = [x, up] if fast is gates[0] else [x]
        each = [torch.autograd.grad(found, of, direction) for found in (fast, plain)]
        for one, other in zip(*each, strict=True):
            torch.testing.assert_close(one, other, rtol=2e-2, atol=5e-2)
    dropout, keys = RowDropout(0.4, salt=3), keys_of(1, torch.arange(37))
    how = keys, dropout.salt, dropout.cut, dropout.scale, kernels()
    expected = dropout(x.detach().float(), keys)
    assert torch.equal(dropped(x.detach(), None, *how), expected.to(HALF))
    assert torch.equal(dropped(x.detach(), up.detach().clone(), *how), (up.detach().float() + expected).to(HALF))


@needs_kernels
def test_values_at_the_ends_of_their_range() -> None:
    x = torch.tensor([[float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 100.0, -100.0, 0.0]]).to(HALF)
    one = torch.ones_like(x)
    found, expected = NativeGate.apply(x, one, kernels()), silu(x) * one
    assert found.isnan().tolist() == expected.isnan().tolist()
    finite = ~expected.isnan()
    torch.testing.assert_close(found[finite], expected[finite])
    assert linear(found, one).isnan().all()  # a NaN goes on
