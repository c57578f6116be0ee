"""The order of an epoch's rows, a slice at a time."""

import numpy as np
import torch
from torch import Tensor

from recsys_lt.data.arrays import Ints
from recsys_lt.data.streams import key_of, keys_of

#: Up to so many rows are shuffled as a list, of 32 MB at most; more are permuted by a formula.
LISTED = 1 << 22
_ROUNDS = 6


def order_of(key: int, n: int) -> "Order":
    """The order of n rows that belongs to a key, in memory that does not grow with n; a slice of it is [n] int64."""
    if n > LISTED:
        return FeistelOrder(key, n)
    # Of Fisher and Yates: every order is as likely.
    return np.random.Generator(np.random.Philox(key=key & ((1 << 64) - 1))).permutation(n)


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
