"""Prepared sequences and item data on disk: made once, found again by content, mapped into memory."""

import hashlib
import json
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.arrays import pieces
from recsys_lt.data.item_data import ColumnReader, ItemColumn, write_column
from recsys_lt.data.progress import shown
from recsys_lt.data.sequences import Sequences
from recsys_lt.system.atomic import replacing, temporary_beside, write_json
from recsys_lt.system.lock import locked
from recsys_lt.system.machine import refusals


class ContentHashes:
    """SHA-256 of files, kept in a folder, one small file a path: an unchanged file is read once only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, path: Path) -> str:
        """The SHA-256 of the file's content, in hexadecimal."""
        path = path.resolve()
        stat = path.stat()
        # A file may be rewritten at the same size within one tick of mtime; ctime and inode tell too.
        seen = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        memory = self._folder / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
        try:
            remembered = json.loads(memory.read_text(encoding="utf-8"))
            if remembered["seen"] == seen:
                return str(remembered["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # never hashed, or a damaged note: hash
        with path.open("rb") as file, shown(f"hashing {path.name}"):
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._folder.mkdir(parents=True, exist_ok=True)
        with replacing(memory) as temporary:
            temporary.write_text(json.dumps({"seen": seen, "sha256": digest}), encoding="utf-8")
        return digest


FORMAT = 1  # of the preparation: part of the key. Raise it when the events that come out change
#: Version of the folder and of the item data in it. It is outside the key: older copies are prepared again under it.
VERSION = 3
_ARRAYS = ("items", "offsets", "train_end", "valid_at", "test_at", "user_ids", "item_ids")
_POPULARITY = "popularity"  # worked out of the arrays above when they are written
#: Only where times are wanted: they are as large as all the rest, and few runs read them.
_TIMES = "times"
_ABOUT = "about.json"
_BLOCK = 1 << 22
_STALE = 86_400  # seconds

Prepared = tuple[Sequences, list[str]]
T = TypeVar("T")


class PreparedCache:
    """A prepared dataset's folder, of the dataset's name and the hash ``key`` of everything it is made of.

    A dataset is written under a temporary name and renamed, so that a folder is whole or absent; each array has a
    checksum, so that one damaged later is noticed and prepared again. ``announce`` takes a line where this process
    waits for another one, and on a damaged copy.
    """

    def __init__(self, folder: Path, name: str, key: str, announce: Callable[[str], None]) -> None:
        self.name, self.announce = name, announce
        self._folder, self._key, self._place = folder, key, folder / key

    def get(self, prepare: Callable[[], Prepared], with_times: bool = False) -> Prepared:
        """The sequences, with the times of events if wanted and there, and the notes of their preparation."""
        self._folder.mkdir(parents=True, exist_ok=True)

        def make() -> None:
            self._sweep()
            whole = with_times and self._load(False) is not None
            if self._place.exists() and not whole:
                self.announce(f"{self.name}: the prepared copy is damaged or of an earlier version; preparing it again")
            sequences, notes = prepare()
            if not whole:
                self._write(replace(sequences, fingerprint=self._key), notes)
            if with_times:
                times = sequences.times
                self._add(_TIMES, None if times is None else lambda draft: np.save(draft, times, allow_pickle=False))

        return self._once(lambda: self._load(with_times), make, self._place)

    def column(self, name: str, reader: ColumnReader, item_ids: NDArray[np.str_]) -> ItemColumn:
        """A column of the items, [I] or [I, d], mapped; ``reader`` reads it from its file where it is not there yet."""
        array = f"column_{quote(name, safe='')}"

        def load() -> NDArray[Any] | None:
            found = self._array(array, self._about().get(array))
            return found if found is not None and len(found) == len(item_ids) else None

        def make() -> None:
            raw = reader(item_ids)
            lines: list[str] = []
            self._add(array, lambda draft: lines.extend(write_column(draft, name, raw, item_ids)))
            for line in lines:
                self.announce(f"{self.name}: {line}")

        return self._once(load, make, self._place / f"{array}.npy")

    def _once(self, load: Callable[[], T | None], make: Callable[[], None], place: Path) -> T:
        """What is loaded, made first by one process at a time where it is not there."""
        if (found := load()) is not None:
            return found
        waiting = f"{self.name}: waiting for another process that prepares it"
        with locked(self._folder / f"{self._key}.lock", lambda: self.announce(waiting)):
            if (found := load()) is not None:
                return found
            make()
        if (found := load()) is None:
            raise OSError(f"{place} was written and cannot be read back")
        return found

    def _sweep(self) -> None:
        """Remove what a process that was killed long ago left half-written."""
        for left in self._folder.glob(f".{self._key}.*"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE:
                    shutil.rmtree(left, ignore_errors=True)

    def _write(self, sequences: Sequences, notes: list[str]) -> None:
        place, temporary = self._place, temporary_beside(self._place)
        try:
            temporary.mkdir()
            sums = {}
            for array in (*_ARRAYS, _POPULARITY):
                file = temporary / f"{array}.npy"
                with refusals(place):
                    np.save(file, getattr(sequences, array), allow_pickle=False)
                sums[array] = _sum(file)
            about = {
                "version": VERSION,
                "fingerprint": sequences.fingerprint,
                "n_items": sequences.n_items,
                "split": sequences.split,
                "notes": notes,
                "sums": sums,
            }
            (temporary / _ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
            if place.exists():
                # Moved aside first: a rename does not replace a folder that is not empty.
                damaged = temporary_beside(place)
                place.rename(damaged)
                shutil.rmtree(damaged, ignore_errors=True)
            try:
                temporary.rename(place)
            except OSError:
                if not (place / _ABOUT).is_file():  # else another process was first, with the same content
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _add(self, array: str, write: Callable[[Path], object] | None) -> None:
        """Lay an array beside those that others may have mapped; or note that the source has none."""
        about = self._about() | {array: None}
        if write is not None:
            with replacing(self._place / f"{array}.npy") as draft:
                write(draft)
                about[array] = _sum(draft)
        write_json(self._place / _ABOUT, about)

    def _about(self) -> dict[str, Any]:
        about: dict[str, Any] = json.loads((self._place / _ABOUT).read_text(encoding="utf-8"))
        return about

    def _array(self, array: str, checksum: int | None, mapped: bool = True) -> NDArray[Any] | None:
        """An array of the folder, or None where it is absent or damaged."""
        file = self._place / f"{array}.npy"
        try:
            if checksum is None or _sum(file) != checksum:
                return None
            found: NDArray[Any] = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
            return found
        except (OSError, ValueError):
            return None

    def _load(self, with_times: bool) -> Prepared | None:
        """What lies there, or None where it is absent, damaged, of an earlier version, or lacks wanted times."""
        try:
            about = self._about()
            if about.get("version") != VERSION:
                return None
            arrays: dict[str, Any] = {}
            wanted = {array: about["sums"][array] for array in (*_ARRAYS, _POPULARITY)}
            if with_times and about[_TIMES] is not None:
                wanted[_TIMES] = about[_TIMES]
            for array, checksum in wanted.items():
                # The counts become a tensor, which must be free to be written to.
                found = self._array(array, checksum, mapped=array != _POPULARITY)
                if found is None:
                    return None
                arrays[array] = found
            if not _in_range(arrays, about["n_items"]):
                return None
            sequences = Sequences(
                name=self.name,
                n_items=about["n_items"],
                split=about["split"],
                fingerprint=about["fingerprint"],
                counted=arrays.pop(_POPULARITY),
                **arrays,
            )
            return sequences, list(about["notes"])
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None


class CachedItemData(Mapping[str, ItemColumn]):
    """The columns of items that a source offers; each is prepared and mapped when it is first read."""

    def __init__(self, cache: PreparedCache, readers: Mapping[str, ColumnReader], item_ids: NDArray[np.str_]) -> None:
        self._cache, self._readers, self._item_ids = cache, readers, item_ids
        self._mapped: dict[str, ItemColumn] = {}

    def __getitem__(self, name: str) -> ItemColumn:
        reader = self._readers[name]
        if name not in self._mapped:
            self._mapped[name] = self._cache.column(name, reader, self._item_ids)
        return self._mapped[name]

    def __contains__(self, name: object) -> bool:
        return name in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def _in_range(arrays: dict[str, Any], n_items: int) -> bool:
    """Whether every item, place and length is one that can be: a wrong one would end a run hours later."""
    items, offsets = arrays["items"], np.asarray(arrays["offsets"])
    lengths = np.diff(offsets)
    whole = offsets[0] == 0 and offsets[-1] == len(items) and (lengths >= 1).all()
    cuts = [np.asarray(arrays[name]) for name in ("train_end", "valid_at", "test_at")]
    ends = [lengths, lengths - 1, lengths - 1]
    inside = all(((cut >= -1) & (cut <= end)).all() for cut, end in zip(cuts, ends, strict=True)) and cuts[0].min() >= 0
    sizes = {"user_ids": len(lengths), "item_ids": n_items, _POPULARITY: n_items, _TIMES: len(items)}
    if not (whole and inside and all(len(arrays[name]) == size for name, size in sizes.items() if name in arrays)):
        return False
    return all(items[piece].min() >= 0 and items[piece].max() < n_items for piece in pieces(len(items)))


def _sum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            value = zlib.crc32(block, value)
    return value
