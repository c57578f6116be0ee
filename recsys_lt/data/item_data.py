"""Item data: named columns of text [I] or of vectors [I, d], in the order of an item vocabulary."""

from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.arrays import PIECE, pieces
from recsys_lt.errors import UserError

ItemColumn = NDArray[np.str_] | NDArray[np.float32]
TITLE, ATTRIBUTES = "title", "attributes"
LONGEST_TITLE = 512  # characters; the metadata of 2014 have whole web pages for titles
LONGEST_TEXT = 2048


class RawColumn(NamedTuple):
    """A column as its file holds it: ids [n], values [n] texts or [n, d] numbers, and the file, for messages.

    Values that are mapped from a file are read in pieces.
    """

    ids: NDArray[np.object_]
    values: NDArray[Any]
    where: Path | str


#: Reads a column; the item ids that are wanted, [I], spare a slow reader the others.
ColumnReader = Callable[[NDArray[Any]], RawColumn]


def write_column(path: Path, name: str, raw: RawColumn, item_ids: NDArray[np.str_]) -> list[str]:
    """Write a column in the order of the vocabulary [I] as a ``.npy`` that can be mapped.

    Texts are without HTML's entities and line ends, and cut at ``LONGEST_TEXT`` characters (a title at
    ``LONGEST_TITLE``); an item without a text has "". Vectors are 32-bit floats; an item without one has zeros. Returns
    lines on the items without a value and the rows of other items. Raises UserError where no row is of an item of the
    vocabulary, an item has two rows, or a vector holds a number that is not finite.
    """
    import pandas as pd

    index = pd.Index(raw.ids)
    if not index.is_unique:
        twice = int(np.argmax(index.duplicated()))
        what = f"item {raw.ids[twice]} is there a second time (row {twice + 1})"
        raise UserError(what, where=raw.where, remedy="Give each item one row")
    rows = index.get_indexer(pd.Index(item_ids.astype(np.object_)))
    known = int(np.count_nonzero(rows >= 0))
    if not known:
        what = f"none of its {len(index):,} rows is of one of the {len(rows):,} items"
        raise UserError(what, where=raw.where, remedy="Write item ids as the events have them")
    if raw.values.ndim == 1:
        longest = LONGEST_TITLE if name == TITLE else LONGEST_TEXT
        texts = [_plain(raw.values[row])[:longest].rstrip() if row >= 0 else "" for row in rows]
        np.save(path, np.array(texts, dtype=np.str_), allow_pickle=False)
        without = texts.count("")
    else:
        _write_vectors(path, raw, rows, item_ids)
        without = len(rows) - known
    lines = []
    if without:
        lines.append(f"{without:,} of {len(rows):,} items have no {name}")
    if known < len(index):
        rest = f"{len(index) - known:,} of {len(index):,} rows"
        lines.append(f"{name}: {rest} are of items that are not in the data; they are ignored")
    return lines


def _plain(text: str) -> str:
    # Shops' metadata are cut from web pages: "Cr&egrave;me".
    return " ".join(unescape(text).split())


def _write_vectors(path: Path, raw: RawColumn, rows: NDArray[np.intp], item_ids: NDArray[np.str_]) -> None:
    width = raw.values.shape[1]
    written = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(rows), width))
    for piece in pieces(len(rows), max(1, PIECE // width)):
        places = np.flatnonzero(rows[piece] >= 0)
        with np.errstate(over="ignore"):
            vectors = raw.values[rows[piece][places]].astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(vectors).all(1))
        if len(bad):
            what = f"the vector of item {item_ids[piece][places[bad[0]]]} holds a number that is not finite"
            raise UserError(what, where=raw.where, remedy="Give finite numbers, or leave the item's row out")
        written[piece][places] = vectors
    written.flush()


def plain_attributes(text: str, words: bool) -> str:
    """Attributes as "Comedy, Drama", from texts with bars, commas or Python's list marks between them.

    With ``words`` each word is an attribute (RecBole's token_seq) where neither a bar nor a comma is in the text.
    """
    mark = next((mark for mark in "|," if mark in text), " " if words else "|")
    parts = (part.strip("[]'\" ") for part in text.split(mark))
    return ", ".join(part for part in parts if part)
