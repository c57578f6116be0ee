"""The compiled streams give the very numbers of recsys_lt/streams.py."""

import ctypes

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lt.backbones.layers import RowDropout
from recsys_lt.data.streams import keys_of, plain_integers
from recsys_lt.native.functions import NativeDropout, integers


@given(
    high=st.one_of(
        st.integers(1, 70), st.integers(1, 1 << 62), st.sampled_from([1 << 31, (1 << 31) + 1, (1 << 62) - 1])
    ),
    key=st.integers(-(1 << 63), (1 << 63) - 1),
    count=st.integers(0, 40),
)
@settings(deadline=None, max_examples=60)
def test_integers(compiled: ctypes.CDLL, high: int, key: int, count: int) -> None:
    keys = keys_of(key, torch.arange(5))
    assert torch.equal(integers(compiled, keys, count, high), plain_integers(keys, count, high))


@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (9, 5), (33, 64), (6, 3, 7)])
@pytest.mark.parametrize("relu", [False, True])
def test_dropout(compiled: ctypes.CDLL, shape: tuple[int, ...], relu: bool) -> None:
    torch.manual_seed(0)
    layer = RowDropout(0.35, salt=3)
    x = torch.randn(shape, requires_grad=True)
    keys = keys_of(1, torch.arange(shape[0]))
    by_out = torch.randn(shape)

    fast = NativeDropout.apply(x, keys, layer.salt, layer.cut, layer.scale, relu, compiled)
    (by_fast,) = torch.autograd.grad(fast, x, by_out)
    keep = layer.kept(x.shape[1:].numel(), keys).view_as(x)
    plain = (x.relu() if relu else x) * keep * layer.scale
    (by_plain,) = torch.autograd.grad(plain, x, by_out)
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(by_fast, by_plain)


def test_the_layer_gives_both_types_the_same_mask() -> None:
    layer, keys = RowDropout(0.5, salt=1), keys_of(2, torch.arange(20))
    x = torch.ones(20, 6)
    assert torch.equal(layer(x, keys), layer(x.double(), keys).float())
    assert torch.equal(layer.relu(x - 2, keys), torch.zeros_like(x))


def test_dropout_of_very_wide_rows(compiled: ctypes.CDLL) -> None:
    layer, keys = RowDropout(0.5, salt=1), keys_of(3, torch.arange(2))
    width = 3_000_001
    fast = layer(torch.ones(2, width), keys)
    assert torch.equal(fast != 0, layer.kept(width, keys))


def test_what_is_not_a_number_stays_so(compiled: ctypes.CDLL) -> None:
    layer, keys = RowDropout(0.5, salt=1), keys_of(3, torch.arange(4))
    x = torch.full((4, 50), torch.nan)
    kept = layer.kept(50, keys)
    for masked in (layer(x, keys), layer.relu(x, keys)):
        assert masked[kept].isnan().all()


def test_a_row_without_a_key_is_refused(compiled: ctypes.CDLL) -> None:
    with pytest.raises(ValueError, match="3 keys for 4 rows"):
        RowDropout(0.5, salt=1)(torch.ones(4, 2), keys_of(3, torch.arange(3)))
