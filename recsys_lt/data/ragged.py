"""Index arithmetic on ragged arrays: many variable-length pieces in one flat array."""

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
