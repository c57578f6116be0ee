"""Ragged arrays, and long columns a piece at a time, so that only the columns themselves grow with the data."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def offsets_of(lengths: Ints) -> Ints:
    """Offsets [n + 1] of pieces of the given lengths [n] laid end to end."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ragged_index(starts: Ints, lengths: Ints) -> Ints:
    """Flat indices of the pieces [starts[i], starts[i] + lengths[i]), end to end."""
    offsets = offsets_of(lengths)
    index = np.arange(offsets[-1], dtype=np.int64)
    index += np.repeat(starts - offsets[:-1], lengths)
    return index


PIECE = 1 << 22  # events: 32 MB of 64-bit numbers


def pieces(n: int, size: int = PIECE) -> Iterator[slice]:
    """Slices that cover n places in order, each of ``size`` but the last."""
    for first in range(0, n, size):
        yield slice(first, min(first + size, n))
