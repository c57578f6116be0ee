"""JSON lines of one history and its next item each, ready split (the LastFM of LLaRA and S-DPO)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.formats.items import object_array
from recsys_lt.data.interactions import Interactions, Mark, Material
from recsys_lt.data.item_data import TITLE, RawColumn
from recsys_lt.errors import UserError

_NAMES = "id2name.txt"
_PARTS = ("train", "val", "test")


class NextItemLines:
    """``train.jsonl``, ``val.jsonl``, ``test.jsonl`` with rows {"seq", "next"}, and ``id2name.txt``."""

    wanted = "train.jsonl, val.jsonl, test.jsonl and id2name.txt"

    def find(self, folder: Path) -> Material | None:
        files = tuple(folder / name for name in (*(f"{part}.jsonl" for part in _PARTS), _NAMES))
        if not all(path.is_file() for path in files):
            return None

        def titles(_wanted: NDArray[Any]) -> RawColumn:
            ids, names = _names(folder / _NAMES)
            return RawColumn(object_array(ids), object_array(names), folder / _NAMES)

        return Material("next-item lines", files, lambda: read_next_item(folder), {}, {TITLE: titles})


def read_next_item(folder: Path) -> Interactions:
    """The users of the training rows, and one user for each validation and test row.

    Training rows are a user's growing, then sliding, prefixes one after another; they are chained back to the one
    sequence they came from. A validation or test row is a user with no event for training: its history is input only,
    its next item the target. Raises UserError where a line is not such a row, or an item has no name.
    """
    ids, _ = _names(folder / _NAMES)
    place = {item: number for number, item in enumerate(ids)}
    rows = {part: list(_rows(folder / f"{part}.jsonl", place)) for part in _PARTS}
    #: Users with their events, and what these are for: all but the last, and the last.
    users = [
        (f"train-{number}", sequence, Mark.TRAIN, Mark.TRAIN) for number, sequence in enumerate(_chained(rows["train"]))
    ]
    for part, mark in (("val", Mark.VALID), ("test", Mark.TEST)):
        for number, (history, following) in enumerate(rows[part]):
            users.append((f"{part}-{number}", [*history, following], Mark.HISTORY, mark))
    if not users:
        raise UserError("there are no rows in them", where=folder, remedy="Write one history and its next item a line")
    return Interactions(
        np.repeat(np.arange(len(users), dtype=np.int32), [len(sequence) for _, sequence, _, _ in users]),
        np.array([item for _, sequence, _, _ in users for item in sequence], dtype=np.int32),
        object_array(user for user, _, _, _ in users),
        object_array(ids),
        marks=np.concatenate(
            [[before] * (len(sequence) - 1) + [last] for _, sequence, before, last in users], dtype=np.int8
        ),
        repeats_are_visits=True,
    )


def _names(path: Path) -> tuple[list[str], list[str]]:
    ids, titles = [], []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        item, colons, title = line.decode(errors="replace").rstrip("\r").partition("::")
        if colons:
            ids.append(item)
            titles.append(title)
        elif item:
            raise UserError("the line is not id::name", where=f"{path}, line {number}")
    if not ids:
        raise UserError("the file is empty", where=path, remedy="Write one id::name a line")
    return ids, titles


def _rows(path: Path, place: dict[str, int]) -> Iterator[tuple[list[int], int]]:
    """History without padding, and next item, as places in the catalogue."""
    padding: str | None = None
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                history, following = [str(item) for item in row["seq"]], str(row["next"])
            except (ValueError, KeyError, TypeError) as error:
                what = 'the line is not a row {"seq": [...], "next": ...}'
                raise UserError(what, where=f"{path}, line {number}") from error
            for item in history:
                # The one id without a name pads the history.
                if item not in place and padding is None:
                    padding = item
                if item not in place and item != padding:
                    raise UserError(f"item {item} has no name in {_NAMES}", where=f"{path}, line {number}")
            if following not in place:
                raise UserError(f"item {following} has no name in {_NAMES}", where=f"{path}, line {number}")
            yield [place[item] for item in history if item != padding], place[following]


def _chained(rows: list[tuple[list[int], int]]) -> Iterator[list[int]]:
    window = max((len(history) for history, _ in rows), default=0)
    current: list[int] = []
    for history, following in rows:
        # A row goes on the sequence when its history is all of it, or its last window.
        if history and history == current[-window:]:
            current.append(following)
            continue
        if current:
            yield current
        current = [*history, following]
    if current:
        yield current
