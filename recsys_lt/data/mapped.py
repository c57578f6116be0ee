"""Arrays mapped from files, named to other processes by their file."""

import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
