"""Prepared sequences on disk: made once, found again by content, mapped into memory."""

import json
import shutil
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys_lt.atomic import replacing, temporary_beside, write_json
from recsys_lt.data.lock import locked
from recsys_lt.data.sequences import Sequences

FORMAT = 1  # of the folder and of the preparation; raise it when either changes what comes out
_ARRAYS = ("items", "offsets", "train_end", "valid_at", "test_at", "user_ids", "item_ids", "item_titles")
# Worked out of the arrays above when they are written; a folder of an earlier version is whole without it.
_POPULARITY = "popularity"
# Only where somebody asked for them: they are as large as all the rest, and few runs read them.
_TIMES = "times"
_ABOUT = "about.json"
_BLOCK = 1 << 22
_STALE = 86_400  # seconds

Prepared = tuple[Sequences, list[str]]


class PreparedCache:
    """A folder of prepared datasets.

    A dataset is written under a temporary name and renamed, so that a folder is whole or absent; each
    array has a checksum, so that one damaged later is noticed and prepared again.

    Parameters
    ----------
    folder
        Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(
        self,
        name: str,
        key: str,
        prepare: Callable[[], Prepared],
        announce: Callable[[str], None],
        with_times: bool = False,
    ) -> Prepared:
        """The sequences of this key, and the notes of their preparation.

        Parameters
        ----------
        name
            The dataset's name.
        key
            Hash of everything they are made of.
        prepare
            Makes them where they are not there.
        announce
            Told when it waits for another process, and of a damaged copy.
        with_times
            Whether ``times`` are wanted too, where there are any; a copy without them gets them.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        place = self._folder / key
        found = _load(place, name, with_times)
        if found is not None:
            return found
        lock = self._folder / f"{key}.lock"
        with locked(lock, lambda: announce(f"{name}: waiting for another process that prepares it")):
            found = _load(place, name, with_times)
            if found is not None:
                return found
            self._sweep(key)
            whole = with_times and _load(place, name, False) is not None
            if place.exists() and not whole:
                announce(f"{name}: the prepared copy is damaged; preparing it again")
            sequences, notes = prepare()
            if not whole:
                _write(place, replace(sequences, fingerprint=key), notes)
            if with_times:
                _add_times(place, sequences)
        found = _load(place, name, with_times)
        if found is None:
            raise OSError(f"{place} was written and cannot be read back")
        return found

    def _sweep(self, key: str) -> None:
        """Remove what a process that was killed long ago left half-written."""
        for left in self._folder.glob(f".{key}.*"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE:
                    shutil.rmtree(left, ignore_errors=True)


def _write(place: Path, sequences: Sequences, notes: list[str]) -> None:
    temporary = temporary_beside(place)
    temporary.mkdir()
    try:
        sums = {}
        for array in (*_ARRAYS, _POPULARITY):
            file = temporary / f"{array}.npy"
            np.save(file, getattr(sequences, array), allow_pickle=False)
            sums[array] = _sum(file)
        about = {
            "format": FORMAT,
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


def _add_times(place: Path, sequences: Sequences) -> None:
    """Lay times beside arrays that others may have mapped; or note that the source has none."""
    about = json.loads((place / _ABOUT).read_text(encoding="utf-8"))
    about[_TIMES] = None
    if sequences.times is not None:
        with replacing(place / f"{_TIMES}.npy") as draft:
            np.save(draft, sequences.times, allow_pickle=False)
            about[_TIMES] = _sum(draft)
    write_json(place / _ABOUT, about)


def _load(place: Path, name: str, with_times: bool) -> Prepared | None:
    """What lies there, or None where it is absent, damaged, or lacks the times that are wanted."""
    try:
        about = json.loads((place / _ABOUT).read_text(encoding="utf-8"))
        arrays: dict[str, Any] = {}
        sums = about["sums"]
        if with_times and about[_TIMES] is not None:
            sums = sums | {_TIMES: about[_TIMES]}
        for array in {*_ARRAYS, *sums}:
            file = place / f"{array}.npy"
            if _sum(file) != sums[array]:
                return None
            # The counts become a tensor, which must be free to be written to.
            arrays[array] = np.load(file, mmap_mode=None if array == _POPULARITY else "r", allow_pickle=False)
        sequences = Sequences(
            name=name,
            n_items=about["n_items"],
            split=about["split"],
            fingerprint=about["fingerprint"],
            counted=arrays.pop(_POPULARITY, None),
            **arrays,
        )
        return sequences, list(about["notes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            value = zlib.crc32(block, value)
    return value
