"""Prepared sequences on disk: made once, found again by content, mapped into memory."""

import json
import shutil
import time
import zlib
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys_lt.data.lock import locked
from recsys_lt.data.pieces import pieces
from recsys_lt.data.sequences import Sequences
from recsys_lt.system.atomic import replacing, temporary_beside, write_json
from recsys_lt.system.machine import refusals

FORMAT = 1  # of the folder and of the preparation; raise it when either changes what comes out
#: Version of the title readers. It is outside the fingerprint; older copies are prepared again under the same key.
TITLES = 2
_ARRAYS = ("items", "offsets", "train_end", "valid_at", "test_at", "user_ids", "item_ids", "item_titles")
# Worked out of the arrays above when they are written; a folder of an earlier version is whole without it.
_POPULARITY = "popularity"
#: Only where somebody asked for them: times are as large as all the rest, and few runs read either. Asked for later,
#: they are laid beside the rest, so that a folder of an earlier version is whole without them.
EXTRAS = ("times", "item_attributes")
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
        extras: Collection[str] = (),
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
        extras
            Which of ``EXTRAS`` are wanted too, where there are any; a copy without them gets them.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        place = self._folder / key
        found = _load(place, name, extras)
        if found is not None:
            return found
        lock = self._folder / f"{key}.lock"
        with locked(lock, lambda: announce(f"{name}: waiting for another process that prepares it")):
            found = _load(place, name, extras)
            if found is not None:
                return found
            self._sweep(key)
            whole = extras and _load(place, name, ()) is not None
            if place.exists() and not whole:
                announce(f"{name}: the prepared copy is damaged or of an earlier version; preparing it again")
            sequences, notes = prepare()
            if not whole:
                _write(place, replace(sequences, fingerprint=key), notes)
            if extras:
                _add(place, sequences, extras)
        found = _load(place, name, extras)
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
    try:
        temporary.mkdir()
        sums = {}
        for array in (*_ARRAYS, _POPULARITY):
            file = temporary / f"{array}.npy"
            with refusals(place):
                np.save(file, getattr(sequences, array), allow_pickle=False)
            sums[array] = _sum(file)
        about = {
            "format": FORMAT,
            "titles": TITLES,
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


def _add(place: Path, sequences: Sequences, extras: Collection[str]) -> None:
    """Lay arrays beside those that others may have mapped; or note that the source has none."""
    about = json.loads((place / _ABOUT).read_text(encoding="utf-8"))
    for extra in extras:
        about[extra] = None
        if (array := getattr(sequences, extra)) is not None:
            with replacing(place / f"{extra}.npy") as draft:
                np.save(draft, array, allow_pickle=False)
                about[extra] = _sum(draft)
    write_json(place / _ABOUT, about)


def _load(place: Path, name: str, extras: Collection[str]) -> Prepared | None:
    """What lies there, or None where it is absent, damaged, of an earlier version, or lacks extras that are wanted."""
    try:
        about = json.loads((place / _ABOUT).read_text(encoding="utf-8"))
        if about.get("titles") != TITLES:
            return None
        arrays: dict[str, Any] = {}
        sums = about["sums"] | {extra: about[extra] for extra in extras if about[extra] is not None}
        for array in {*_ARRAYS, *sums}:
            file = place / f"{array}.npy"
            if _sum(file) != sums[array]:
                return None
            # The counts become a tensor, which must be free to be written to.
            arrays[array] = np.load(file, mmap_mode=None if array == _POPULARITY else "r", allow_pickle=False)
        if not _in_range(arrays, about["n_items"]):
            return None
        sequences = Sequences(
            name=name,
            n_items=about["n_items"],
            split=about["split"],
            fingerprint=about["fingerprint"],
            counted=arrays.pop(_POPULARITY, None),
            **arrays,
        )
        return sequences, list(about["notes"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _in_range(arrays: dict[str, Any], n_items: int) -> bool:
    """Whether every item, place and length is one that can be: a wrong one would end a run hours later."""
    items, offsets = arrays["items"], np.asarray(arrays["offsets"])
    lengths = np.diff(offsets)
    whole = offsets[0] == 0 and offsets[-1] == len(items) and (lengths >= 1).all()
    cuts = [np.asarray(arrays[name]) for name in ("train_end", "valid_at", "test_at")]
    ends = [lengths, lengths - 1, lengths - 1]
    inside = all(((cut >= -1) & (cut <= end)).all() for cut, end in zip(cuts, ends, strict=True)) and cuts[0].min() >= 0
    texts = [arrays[name] for name in ("item_ids", "item_titles", "item_attributes") if name in arrays]
    if not (whole and inside and len(arrays["user_ids"]) == len(lengths) and all(len(t) == n_items for t in texts)):
        return False
    if len(arrays.get("times", items)) != len(items) or len(arrays.get(_POPULARITY, range(n_items))) != n_items:
        return False
    return all(items[piece].min() >= 0 and items[piece].max() < n_items for piece in pieces(len(items)))


def _sum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            value = zlib.crc32(block, value)
    return value
