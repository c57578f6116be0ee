"""What a table of items knows of them besides their titles."""

from collections.abc import Mapping, Sequence

from recsys_lt.data.interactions import Texts, titles_of

_NAMES = ("attributes", "genres", "genre", "categories", "category", "class")


def attributes_of(item_ids: Texts, rows: Sequence[Mapping[str, str]], keys: Sequence[str], words: bool) -> Texts | None:
    """The attributes of each item, "Comedy, Drama", [I]; None where the table has no column of any.

    Parameters
    ----------
    item_ids
        The items, [I].
    rows
        The table.
    keys
        Whose row each is.
    words
        Whether each word is an attribute of its own (RecBole's token_seq) where neither a bar nor a comma is in a text.
    """
    column = next((name for name in _NAMES if rows and name in rows[0]), None)
    if column is None:
        return None
    return titles_of(item_ids, {key: _listed(row[column], words) for key, row in zip(keys, rows, strict=True)})


def _listed(text: str, words: bool) -> str:
    mark = next((mark for mark in "|," if mark in text), " " if words else "|")
    parts = (part.strip("[]'\" ") for part in text.split(mark))
    return ", ".join(part for part in parts if part)
