"""Text with a user and their items, oldest first, on each line; and a table of the items."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from recsys_lt.data.formats.items import TABLES, object_array, table_columns, texts_of
from recsys_lt.data.formats.material import Material
from recsys_lt.data.interactions import Interactions
from recsys_lt.errors import UserError

_TABLE = TABLES[".item"]


class SequenceText:
    """``sequences.txt`` (``user item item ...``) and, for raw ids and titles, ``items.tsv``."""

    wanted = "sequences.txt (and items.tsv for titles)"

    def find(self, folder: Path) -> Material | None:
        text = folder / "sequences.txt"
        return sequence_material(text) if text.is_file() else None


def sequence_material(text: Path) -> Material:
    """The text and, where there is one, the ``items.tsv`` beside it.

    The table's first column holds the items of the text. Where it has a column ``raw_id``, that is an item's id.
    """
    items = text.with_name("items.tsv")
    if not items.is_file():
        return Material("sequence text", (text,), lambda: read_sequences(text))
    headers = _TABLE.headers(items)
    key = "raw_id" if "raw_id" in headers else headers[0]

    def read() -> Interactions:
        return _with_raw_ids(read_sequences(text), items, key)

    return Material("sequence text", (text, items), read, {}, table_columns(_TABLE, items, key))


def read_sequences(path: Path) -> Interactions:
    """One event for each item of each line; a user on a second line goes on there.

    Raises UserError where the file is empty, not UTF-8, or no line has an item.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        lines = pa.array(content.split(b"\n"), pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid as error:
        raise UserError("it is not UTF-8 text", where=path, remedy="Save it as UTF-8") from error
    lines = pc.utf8_rtrim(lines, "\r")
    inside = pc.index(pc.match_substring(lines, "\r"), True).as_py()
    if inside >= 0:
        raise UserError(
            "a carriage return is inside the line: the lines of old Macs end so, and would be read as one",
            where=f"{path}, line {inside + 1}",
            remedy="Save it with line feeds (\\n) at the ends of lines",
        )
    words = pc.ascii_split_whitespace(pc.ascii_trim_whitespace(lines))
    lengths = pc.list_value_length(words).to_numpy()
    kept = np.flatnonzero(lengths > 1)
    if not len(kept):
        what = "no line has a user and an item" if content else "the file is empty"
        raise UserError(what, where=path, remedy="Write a user and their items, oldest first, on each line")
    ends = np.cumsum(lengths[kept] - 1)
    tokens = words.take(kept).flatten()
    is_user = np.zeros(len(tokens), dtype=np.bool_)
    is_user[np.append(0, ends[:-1] + np.arange(1, len(kept)))] = True
    users, items = (tokens.filter(pa.array(which)).dictionary_encode() for which in (is_user, ~is_user))
    return Interactions(
        np.repeat(users.indices.to_numpy(), lengths[kept] - 1),
        items.indices.to_numpy(),
        object_array(users.dictionary.to_pylist()),
        object_array(items.dictionary.to_pylist()),
        repeats_are_visits=True,
        place=lambda event: f"line {kept[int(np.searchsorted(ends, event, side='right'))] + 1}",
    )


def _with_raw_ids(events: Interactions, path: Path, key: str) -> Interactions:
    """The table's ids instead of the numbers in the text, which its first column holds."""
    first = _TABLE.headers(path)[0]
    table = _TABLE.read(path, list(dict.fromkeys((first, key))))
    numbers, raw_ids = (texts_of(table.column(name), path, name) for name in (first, key))
    raw: dict[str, str] = {}
    for row, (number, raw_id) in enumerate(zip(numbers, raw_ids, strict=True)):
        if number in raw:
            what = f"item {number} is there a second time"
            raise UserError(what, where=f"{path}, {_TABLE.place(path, row)}", remedy="Give each item one line")
        raw[number] = raw_id
    unknown = [item for item in events.item_ids if item not in raw]
    if unknown:
        what = f"item {unknown[0]} of the sequences is not in it ({len(unknown)} such items)"
        raise UserError(what, where=path, remedy="Give a table of all items, or none")
    item_ids = object_array(raw[item] for item in events.item_ids)
    if len(set(item_ids)) < len(item_ids):
        raise UserError(f"two items have one {key}", where=path, remedy="Give each item an id of its own")
    return replace(events, item_ids=item_ids)
