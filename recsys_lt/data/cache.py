"""Prepared sequences and item data on disk: made once, found again by content, mapped into memory."""

import hashlib
import json
import zlib
from collections import UserDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from recsys_lt.data.item_data import ColumnReader, ItemColumn, write_column
from recsys_lt.data.sequences import Sequences
from recsys_lt.system.atomic import locked, remove_unfinished, replacing, write_json

FORMAT = 1  # of the preparation: part of the key. Raise it when the events that come out change
#: Version of the folder and of the item data in it. It is outside the key: older copies are prepared again under it.
VERSION = 4
_ARRAYS = ("items", "offsets", "train_end", "valid_at", "test_at", "user_ids", "item_ids", "popularity")
_TIMES = "times"  # only where the source has them
_ABOUT = "about.json"
_BLOCK = 1 << 22
#: Raised where an array is absent or damaged.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, IndexError)

Prepared = tuple[Sequences, list[str]]
T = TypeVar("T")


def content_hash(path: Path, notes: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal; an unchanged file is read once only, by a note in a folder."""
    path = path.resolve()
    stat = path.stat()
    # A file may be rewritten at the same size within one tick of mtime; ctime and inode tell too.
    seen = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    note = notes / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
    with suppress(*_UNREADABLE):  # never hashed, or a damaged note: hash
        remembered = json.loads(note.read_text(encoding="utf-8"))
        if remembered["seen"] == seen:
            return str(remembered["sha256"])
    with path.open("rb") as file, Console(stderr=True).status(Text(f"hashing {path.name}")):
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    write_json(note, {"seen": seen, "sha256": digest})
    return digest


class PreparedCache:
    """A prepared dataset's folder, of the dataset's name and the hash ``key`` of everything it is made of.

    Each array has a checksum, so that one that is absent or damaged is noticed and prepared again. ``announce`` takes a
    line where this process waits for another one, and on a damaged copy.
    """

    def __init__(self, folder: Path, name: str, key: str, announce: Callable[[str], None]) -> None:
        self.name, self.announce = name, announce
        self._folder, self._key, self._place = folder, key, folder / key

    def get(self, prepare: Callable[[], Prepared]) -> Prepared:
        """The sequences and the notes of their preparation."""
        self._folder.mkdir(parents=True, exist_ok=True)

        def make() -> None:
            if self._place.exists():
                self.announce(f"{self.name}: the prepared copy is damaged or of an earlier version; preparing it again")
            sequences, notes = prepare()
            sums = {
                array: self._lay(array, partial(np.save, arr=getattr(sequences, array), allow_pickle=False))
                for array in (_ARRAYS if sequences.times is None else (*_ARRAYS, _TIMES))
            }
            about = {"version": VERSION, "split": sequences.split, "notes": notes, "sums": sums}
            write_json(self._place / _ABOUT, about)

        return self._once(self._load, make)

    def column(self, name: str, reader: ColumnReader, item_ids: NDArray[np.str_]) -> ItemColumn:
        """A column of the items, [I] or [I, d], mapped; ``reader`` reads it from its file where it is not there yet."""
        array = f"column_{quote(name, safe='')}"

        def make() -> None:
            raw = reader(item_ids)
            lines: list[str] = []
            checksum = self._lay(array, lambda draft: lines.extend(write_column(draft, name, raw, item_ids)))
            about = self._about()
            about["sums"][array] = checksum
            write_json(self._place / _ABOUT, about)
            for line in lines:
                self.announce(f"{self.name}: {line}")

        return self._once(lambda: self._array(array, self._about()), make)

    def _once(self, load: Callable[[], T], make: Callable[[], None]) -> T:
        """What is loaded, made first by one process at a time where it is not there."""
        with suppress(*_UNREADABLE):
            return load()
        waiting = f"{self.name}: waiting for another process that prepares it"
        with locked(self._folder / f"{self._key}.lock", lambda: self.announce(waiting)):
            with suppress(*_UNREADABLE):
                return load()
            remove_unfinished(self._place)
            make()
        try:
            return load()
        except _UNREADABLE as error:
            raise OSError(f"{self._place} was written and cannot be read back") from error

    def _lay(self, array: str, write: Callable[[Path], object]) -> int:
        """Lay an array into the folder, in a new file, as others may have mapped an earlier one; its checksum."""
        with replacing(self._place / f"{array}.npy") as draft:
            write(draft)
            return _sum(draft)

    def _about(self) -> dict[str, Any]:
        about: dict[str, Any] = json.loads((self._place / _ABOUT).read_text(encoding="utf-8"))
        return about

    def _array(self, array: str, about: Mapping[str, Any]) -> NDArray[Any]:
        """An array of the folder, mapped; one of ``_UNREADABLE`` where it is absent or damaged."""
        file = self._place / f"{array}.npy"
        if _sum(file) != about["sums"][array]:
            raise ValueError(f"{file} is damaged")
        found: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
        return found

    def _load(self) -> Prepared:
        """What lies there; one of ``_UNREADABLE`` where it is absent, damaged or of an earlier version."""
        about = self._about()
        if about["version"] != VERSION:
            raise ValueError(f"{self._place} is of another version")
        names = (*_ARRAYS, _TIMES) if _TIMES in about["sums"] else _ARRAYS
        arrays: dict[str, Any] = {array: self._array(array, about) for array in names}
        _check_range(arrays)
        # The counts become a tensor, which must be free to be written to.
        counted = np.array(arrays.pop("popularity"))
        sequences = Sequences(
            name=self.name,
            n_items=len(counted),
            split=about["split"],
            fingerprint=self._key,
            counted=counted,
            **arrays,
        )
        return sequences, list(about["notes"])


class CachedItemData(UserDict[str, Any]):
    """The columns of items that a source offers; each is prepared and mapped when it is first read."""

    def __init__(self, cache: PreparedCache, readers: Mapping[str, ColumnReader], item_ids: NDArray[np.str_]) -> None:
        super().__init__(readers)
        self._cache, self._item_ids = cache, item_ids

    def __getitem__(self, key: str) -> ItemColumn:
        if callable(self.data[key]):
            self.data[key] = self._cache.column(key, self.data[key], self._item_ids)
        column: ItemColumn = self.data[key]
        return column


def _check_range(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse an item, place or length that cannot be, with ValueError: a wrong one would end a run hours later."""
    items, offsets, n_items = arrays["items"], np.asarray(arrays["offsets"]), len(arrays["item_ids"])
    lengths = np.diff(offsets)
    whole = offsets[0] == 0 and offsets[-1] == len(items) and (lengths >= 1).all() and arrays["train_end"].min() >= 0
    ends = {"train_end": lengths, "valid_at": lengths - 1, "test_at": lengths - 1}
    inside = all(((arrays[name] >= -1) & (arrays[name] <= end)).all() for name, end in ends.items())
    sizes = {"user_ids": len(lengths), "popularity": n_items, _TIMES: len(items)}
    sized = all(len(arrays[name]) == size for name, size in sizes.items() if name in arrays)
    if not (whole and inside and sized and items.min() >= 0 and items.max() < n_items):
        raise ValueError("the prepared copy holds numbers that cannot be")


def _sum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            value = zlib.crc32(block, value)
    return value
