"""The order of an epoch's rows, a slice at a time."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.arrays import Ints
from recsys_lt.data.streams import key_of

Words = NDArray[np.uint64]
#: Up to so many rows are shuffled as a list, of 16 MB at most; more are permuted by a formula.
LISTED = 1 << 22
_ROUNDS = 6
_MASK = (1 << 64) - 1


class Order(Protocol):
    """A permutation of 0..n-1."""

    def __getitem__(self, places: slice) -> Ints:
        """What stands at these places, [n] int64."""


def order_of(key: int, n: int) -> Order:
    """The order of n rows that belongs to a key, in memory that does not grow with n."""
    return ListedOrder(key, n) if n <= LISTED else FeistelOrder(key, n)


class ListedOrder:
    """A shuffled list (Fisher and Yates): every order is as likely."""

    def __init__(self, key: int, n: int) -> None:
        generator = np.random.Generator(np.random.Philox(key=key & _MASK))
        self._rows = np.arange(n, dtype=np.int32)  # shuffled alike whatever the type
        generator.shuffle(self._rows)

    def __getitem__(self, places: slice) -> Ints:
        return self._rows[places].astype(np.int64)


class FeistelOrder:
    """A keyed permutation without a list: rounds that each xor one half of a number with a hash of the other.

    The rounds permute all numbers of as many bits as n needs; what falls outside 0..n-1 goes round again until it
    falls inside, which leaves a permutation of 0..n-1 (cycle walking: Black & Rogaway, CT-RSA 2002).
    """

    def __init__(self, key: int, n: int) -> None:
        self._n = n
        bits = max(2, (n - 1).bit_length())
        self._low = np.uint64(bits // 2)
        self._masks = np.uint64((1 << bits // 2) - 1), np.uint64((1 << bits - bits // 2) - 1)
        self._keys = [np.uint64(key_of(key, turn) & _MASK) for turn in range(_ROUNDS)]

    def __getitem__(self, places: slice) -> Ints:
        numbers = self._permuted(np.arange(*places.indices(self._n), dtype=np.uint64))
        while len(outside := np.flatnonzero(numbers >= self._n)):
            numbers[outside] = self._permuted(numbers[outside])
        return numbers.astype(np.int64)

    def _permuted(self, numbers: Words) -> Words:
        low, high = numbers & self._masks[0], numbers >> self._low
        for turn, key in enumerate(self._keys):
            if turn % 2:
                high ^= _hashed(low, key) & self._masks[1]
            else:
                low ^= _hashed(high, key) & self._masks[0]
        return (high << self._low) | low


def _hashed(x: Words, key: np.uint64) -> Words:
    """The splitmix64 finaliser of x and key."""
    x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + key
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
