"""Arrays mapped from files: named to other processes by their file, and kept from filling memory."""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: What may be resident of all maps of a dataset at once, roughly.
BUDGET = 1 << 28
#: The kernel maps so many bytes around a place that is read (fault_around_bytes).
_AROUND = 1 << 16


@dataclass(frozen=True)
class FileOf:
    """Stands for an array on its way to another process."""

    path: str

    def opened(self) -> NDArray[Any]:
        """Map the array."""
        array: NDArray[Any] = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return array


def file_of(value: Any) -> Any:
    """The file of an array that is the whole map of one; anything else as it is."""
    if isinstance(value, np.memmap) and isinstance(value.base, mmap.mmap) and value.filename is not None:
        return FileOf(str(value.filename))
    return value


class Residency:
    """Lets go of mapped pages before they are many.

    Pages that were read stay counted as the process's memory until the system wants them back, though they are
    copies of a file; a run over a large dataset would seem to need all of it. Let go here, they remain in the
    system's file cache and are found there. Datasets within the budget are left alone.

    Parameters
    ----------
    arrays
        What is read; those that are no maps do not count.
    budget
        Bytes of them that may be resident, roughly; None for ``BUDGET``.
    """

    def __init__(self, arrays: Sequence[NDArray[Any]], budget: int | None = None) -> None:
        bases: list[object] = [array.base for array in arrays]
        self._maps = [base for base in bases if isinstance(base, mmap.mmap)]
        self._budget = BUDGET if budget is None else budget
        size = sum(len(map_) for map_ in self._maps)
        self._watched = size > self._budget and hasattr(mmap, "MADV_DONTNEED")
        self._touched = 0

    def touched(self, places: int) -> None:
        """Say that so many places of each array were read since the last time."""
        if not self._watched:
            return
        self._touched += places * len(self._maps) * _AROUND
        if self._touched > self._budget:
            for map_ in self._maps:
                map_.madvise(mmap.MADV_DONTNEED)
            self._touched = 0

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("each process watches its own maps")
