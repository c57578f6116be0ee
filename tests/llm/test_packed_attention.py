"""Heads that read the same keys together give what each alone would, in every precision."""

import pytest
import torch
import torch.nn.functional as F

from recsys_lt.llm import packed_attention
from recsys_lt.llm.packed_attention import attended

ROWS, HEADS, SHARED, QUERIES, KEYS, WIDTH = 3, 6, 2, 5, 9, 8


def made():
    generator = torch.Generator().manual_seed(1)
    shapes = ((HEADS, QUERIES), (SHARED, KEYS), (SHARED, KEYS))
    parts = [torch.randn(ROWS, *shape, WIDTH, generator=generator) for shape in shapes]
    sees = torch.ones(QUERIES, KEYS, dtype=torch.bool).tril(KEYS - QUERIES)
    return parts, sees, torch.randn(ROWS, HEADS, QUERIES, WIDTH, generator=generator)


def plain(query, key, value, sees, scale):
    """Each head with keys of its own."""
    key, value = (part.repeat_interleave(HEADS // SHARED, 1) for part in (key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=sees, scale=scale)


def with_gradients(attend, parts, sees, scale, direction):
    parts = [part.detach().requires_grad_() for part in parts]
    found = attend(*parts, sees, scale)
    gradients = torch.autograd.grad((found.float() * direction).sum(), parts)
    return [found.detach(), *gradients]


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize(
    ("dtype", "nearness", "most"),
    [(torch.float32, 1e-5, KEYS), (torch.bfloat16, 0.03, KEYS), (torch.bfloat16, 0.03, 2)],
)
def test_shared_keys_are_each_heads_own(monkeypatch, scale, dtype, nearness, most) -> None:
    monkeypatch.setattr(packed_attention, "_MOST_KEYS", most)
    parts, sees, direction = made()
    expected = with_gradients(plain, parts, sees, scale, direction)
    found = with_gradients(attended, [part.to(dtype) for part in parts], sees, scale, direction)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        assert one.shape == other.shape
        torch.testing.assert_close(one.float(), other, rtol=0.0, atol=nearness * float(other.abs().max()))


def test_what_a_query_does_not_see_does_not_matter() -> None:
    (query, key, value), sees, _ = made()
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = (part.to(dtype) for part in (query, key, value))
        other = v.clone()
        other[:, :, -1] = 100.0  # the last key is the last query's alone
        one, two = attended(q, k, v, sees, None), attended(q, k, other, sees, None)
        assert torch.equal(one[:, :, :-1], two[:, :, :-1])
        assert (one[:, :, -1] - two[:, :, -1]).abs().min() > 0.1
