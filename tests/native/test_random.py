"""The compiled streams give the very numbers of recsys_lt/streams.py."""

import ctypes

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lt.backbones.dropout import RowDropout
from recsys_lt.native.dropout import NativeDropout
from recsys_lt.native.library import kernels
from recsys_lt.native.sampled import integers
from recsys_lt.streams import keys_of, plain_integers


@given(
    high=st.one_of(
        st.integers(1, 70), st.integers(1, 1 << 62), st.sampled_from([1 << 31, (1 << 31) + 1, (1 << 62) - 1])
    ),
    key=st.integers(-(1 << 63), (1 << 63) - 1),
    count=st.integers(0, 40),
)
@settings(deadline=None, max_examples=60)
def test_integers(high: int, key: int, count: int) -> None:
    library = kernels()
    if library is None:
        pytest.skip("no C compiler with OpenMP here, or RECSYS_LT_NATIVE=0")
    keys = keys_of(key, torch.arange(5))
    assert torch.equal(integers(library, keys, count, high), plain_integers(keys, count, high))


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
