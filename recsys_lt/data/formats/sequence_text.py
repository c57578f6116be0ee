"""Text with a user and their items, oldest first, on each line; and a table of the items."""

from bisect import bisect_right
from dataclasses import replace
from pathlib import Path

import numpy as np

from recsys_lt.data.formats.items import TABLES, object_array, table_columns, texts_of
from recsys_lt.data.interactions import EventsAndItems, Interactions
from recsys_lt.errors import UserError

_ITEMS = "items.tsv"
_TABLE = TABLES[".item"]


def read_sequences(path: Path) -> Interactions:
    """One event for each item of each line; a user on a second line goes on there.

    Raises UserError where the file is empty, not UTF-8, or no line has an item.
    """
    import pandas as pd

    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    user_of_line: list[bytes] = []
    items: list[bytes] = []
    ends: list[int] = []  # of each line's items
    numbers: list[int] = []  # of the lines with items
    for number, line in enumerate(content.split(b"\n"), 1):
        if b"\r" in line.rstrip(b"\r"):
            raise UserError(
                "a carriage return is inside the line: the lines of old Macs end so, and would be read as one",
                where=f"{path}, line {number}",
                remedy="Save it with line feeds (\\n) at the ends of lines",
            )
        words = line.split()
        if len(words) > 1:
            user_of_line.append(words[0])
            items += words[1:]
            ends.append(len(items))
            numbers.append(number)
    if not items:
        what = "no line has a user and an item" if content else "the file is empty"
        raise UserError(what, where=path, remedy="Write a user and their items, oldest first, on each line")
    (users, user_ids), (codes, item_ids) = (
        pd.factorize(np.array(words, np.object_)) for words in (user_of_line, items)
    )
    try:
        user_ids, item_ids = (object_array(word.decode() for word in ids) for ids in (user_ids, item_ids))
    except UnicodeDecodeError as error:
        raise UserError("it is not UTF-8 text", where=path, remedy="Save it as UTF-8") from error
    return Interactions(
        np.repeat(users.astype(np.int32), np.diff(ends, prepend=0)),
        codes.astype(np.int32),
        user_ids,
        item_ids,
        repeats_are_visits=True,
        place=lambda event: f"line {numbers[bisect_right(ends, event)]}",
    )


def _read(text: Path) -> Interactions:
    """The events with the table's ids, where there is one, instead of the numbers in the text."""
    import pandas as pd

    events, path = read_sequences(text), text.with_name(_ITEMS)
    if not path.is_file():
        return events
    first, key = _TABLE.headers(path)[0], _key(path)
    table = _TABLE.read(path, list(dict.fromkeys((first, key))))
    numbers, raw_ids = (texts_of(table.column(name), path, name) for name in (first, key))
    index = pd.Index(numbers)
    if not index.is_unique:
        row = int(np.argmax(index.duplicated()))
        what = f"item {numbers[row]} is there a second time"
        raise UserError(what, where=f"{path}, {_TABLE.place(path, row)}", remedy="Give each item one line")
    rows = index.get_indexer(pd.Index(events.item_ids))
    unknown = events.item_ids[rows < 0]
    if len(unknown):
        what = f"item {unknown[0]} of the sequences is not in it ({len(unknown)} such items)"
        raise UserError(what, where=path, remedy="Give a table of all items, or none")
    item_ids = raw_ids[rows]
    if len(set(item_ids)) < len(item_ids):
        raise UserError(f"two items have one {key}", where=path, remedy="Give each item an id of its own")
    return replace(events, item_ids=item_ids)


def _key(items: Path) -> str:
    headers = _TABLE.headers(items)
    return "raw_id" if "raw_id" in headers else headers[0]


#: ``sequences.txt`` (``user item item ...``), and ``items.tsv`` for titles. The table's first column holds the items of
#: the text. Where it has a column ``raw_id``, that is an item's id.
SEQUENCE_TEXT = EventsAndItems(
    "sequence text", "sequences.txt", _ITEMS, _read, lambda items: table_columns(_TABLE, items, _key(items))
)
