"""Random streams keyed by (seed, epoch, row): the same numbers whatever the batch, rank or worker.

A stateful generator makes results depend on who drew before. Here every random word is a hash of
what it is for, so a row's dropout and negatives are the same in any batch, on any rank, and when
the same step is evaluated again (as sharpness-aware rules do).
"""

import torch
from torch import Tensor

from recsys_lt.native.library import kernels
from recsys_lt.native.sampled import integers as native_integers

_MASK = (1 << 64) - 1
# Odd multipliers of the splitmix64 finaliser (Steele, Lea & Flood, OOPSLA 2014), as signed 64-bit.
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


def _signed(x: int) -> int:
    x &= _MASK
    return x - (1 << 64) if x >> 63 else x


def key_of(*parts: int) -> int:
    """Hash integers into one signed 64-bit key; the order of the parts matters."""
    state = 0
    for part in parts:
        state = (state + _GOLDEN + (part & _MASK)) & _MASK
        state = ((state ^ (state >> 30)) * _FIRST) & _MASK
        state = ((state ^ (state >> 27)) * _SECOND) & _MASK
        state ^= state >> 31
    return _signed(state)


def _scramble_(x: Tensor) -> Tensor:
    """The splitmix64 finaliser, in place, on int64 (products wrap; shifts are made logical)."""
    x ^= (x >> 30).bitwise_and_((1 << 34) - 1)
    x *= _signed(_FIRST)
    x ^= (x >> 27).bitwise_and_((1 << 37) - 1)
    x *= _signed(_SECOND)
    x ^= (x >> 31).bitwise_and_((1 << 33) - 1)
    return x


def keys_of(key: int, ids: Tensor) -> Tensor:
    """One 64-bit key per id: ids [*] int64 -> keys [*] int64."""
    return _scramble_((ids + 1).mul_(_signed(_GOLDEN)).add_(key))


def words(keys: Tensor, count: int) -> Tensor:
    """``count`` random 64-bit words for every key: keys [N] -> words [N, count] int64."""
    counters = torch.arange(1, count + 1, device=keys.device) * _signed(_GOLDEN)
    return _scramble_(keys.unsqueeze(1) + counters)


def lanes(keys: Tensor, count: int) -> Tensor:
    """``count`` random 16-bit integers for every key: keys [N] -> [N, count] int16, all values alike.

    Four lanes come of one word, so a dropout mask costs a quarter of a hash an element.
    """
    n_words = -(-count // 4)
    flat = words(keys, n_words).flatten()  # view() refuses the strides of an empty [0, 1]
    return flat.view(torch.int16).view(len(keys), 4 * n_words)[:, :count]


def uniform(keys: Tensor) -> Tensor:
    """One number in [0, 1) for every key, uniform on multiples of 2**-53: keys [N] -> [N] float64."""
    return words(keys, 1).squeeze(1).bitwise_and_((1 << 53) - 1).double() / (1 << 53)


def integers(keys: Tensor, count: int, high: int) -> Tensor:
    """``count`` uniform integers in [0, high) for every key: keys [N] -> [N, count] int64.

    The remainder of a 63-bit word: its bias, at most high / 2**63, is beyond measure.
    """
    if keys.device.type == "cpu" and (compiled := kernels()):
        return native_integers(compiled, keys, count, high)
    return plain_integers(keys, count, high)


def plain_integers(keys: Tensor, count: int, high: int) -> Tensor:
    """``integers`` in PyTorch's operations."""
    return words(keys, count).bitwise_and_((1 << 63) - 1).remainder_(high)
