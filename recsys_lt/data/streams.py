"""Random streams keyed by (seed, epoch, row), and orders of rows: the same whatever the batch, rank or worker.

A stateful generator makes results depend on who drew before. Here every random word is a hash of
what it is for, so a row's dropout and negatives are the same in any batch, on any rank, and when
the same step is evaluated again (as sharpness-aware rules do).
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from recsys_lt.data.arrays import Ints
from recsys_lt.native.functions import integers as native_integers
from recsys_lt.native.library import kernels

_MASK = (1 << 64) - 1
# Odd multipliers of the splitmix64 finaliser (Steele, Lea & Flood, OOPSLA 2014), as signed 64-bit.
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
#: Up to so many rows are shuffled as a list, of 32 MB at most; more are permuted by a formula.
LISTED = 1 << 22
_ROUNDS = 6


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


def unseen_pool(target: int, seen: Tensor, n_items: int, k: int, keys: tuple[int, int]) -> Tensor:
    """A target and uniform items outside ``seen``, in random order: ids [k] int64.

    If fewer than k - 1 other items are unseen, the first seen ones in the order of ids fill the pool. The first of
    the ``keys`` draws the items and the second their order.
    """
    # The items in the order of hashes: distinct, uniform, and the same in every evaluation.
    drawn = keys_of(keys[0], torch.arange(n_items, device=seen.device))
    drawn[seen] = torch.iinfo(torch.int64).max
    drawn[target] = torch.iinfo(torch.int64).min
    pool = drawn.topk(k, largest=False).indices
    return pool[keys_of(keys[1], pool).argsort()]


@lru_cache(maxsize=2)
def order_of(key: int, n: int) -> "Order":
    """The order of n rows that belongs to a key, in memory that does not grow with n.

    A slice of it is [n] int64; it is not to be written to.
    """
    if n > LISTED:
        return FeistelOrder(key, n)
    # Of Fisher and Yates: every order is as likely.
    return np.random.Generator(np.random.Philox(key=key & _MASK)).permutation(n)


class FeistelOrder:
    """A keyed permutation without a list: rounds that each xor one half of a number with a hash of the other.

    The rounds permute all numbers of as many bits as n needs; what falls outside 0..n-1 goes round again until it
    falls inside, which leaves a permutation of 0..n-1 (cycle walking: Black & Rogaway, CT-RSA 2002).
    """

    def __init__(self, key: int, n: int) -> None:
        self._n = n
        bits = max(2, (n - 1).bit_length())
        self._low = bits // 2
        self._masks = (1 << bits // 2) - 1, (1 << bits - bits // 2) - 1
        self._keys = [key_of(key, turn) for turn in range(_ROUNDS)]

    def __getitem__(self, places: slice) -> Ints:
        numbers = self._permuted(torch.arange(*places.indices(self._n)))
        while len(outside := (numbers >= self._n).nonzero().squeeze(1)):
            numbers[outside] = self._permuted(numbers[outside])
        permuted: Ints = numbers.numpy()
        return permuted

    def _permuted(self, numbers: Tensor) -> Tensor:
        low, high = numbers & self._masks[0], numbers >> self._low
        for turn, key in enumerate(self._keys):
            if turn % 2:
                high ^= keys_of(key, low) & self._masks[1]
            else:
                low ^= keys_of(key, high) & self._masks[0]
        return (high << self._low) | low


Order = Ints | FeistelOrder
