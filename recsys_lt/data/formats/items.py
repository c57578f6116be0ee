"""Columns of items from files: tables with a column of item ids, and arrays of vectors with their ids beside them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.formats.events import ROLES
from recsys_lt.data.formats.tables import Delimited, Parquet, TableFormat, chosen
from recsys_lt.data.interactions import Interactions
from recsys_lt.data.item_data import ATTRIBUTES, TITLE, ColumnReader, RawColumn, plain_attributes
from recsys_lt.errors import UserError

#: Headers that are taken for attributes where no column is named so.
_ATTRIBUTES = ("genres", "genre", "categories", "category", "class")
TABLES: Mapping[str, TableFormat] = {
    ".csv": Delimited(),
    ".tsv": Delimited("\t", quoted=False),
    ".item": Delimited("\t", quoted=False, typed=True),
    ".parquet": Parquet(),
}


def own_columns(files: Sequence[Path], columns: Mapping[str, str]) -> dict[str, ColumnReader]:
    """The columns of the files that ``dataset.items`` names: tables by their endings (``TABLES``), and ``.npy`` arrays.

    ``columns`` is ``dataset.columns``, headers by name; ``item`` is the column of ids, otherwise item or item_id.
    Raises UserError where a file cannot be had, a table has no column of ids, two files have a column of one name, or
    no table has a header of ``columns``, or its names and headers have changed places.
    """
    named = {name: header for name, header in columns.items() if name not in ROLES}
    found: dict[str, ColumnReader] = {}
    for path in files:
        where = f"dataset.items={path}"
        if not path.is_file():
            what = "it is not a file" if path.exists() else "there is no such file"
            raise UserError(what, where=where, remedy="Name your file of items")
        ending = path.suffix.lower()
        if ending == ".npy":
            if not ids_beside(path).is_file():
                raise UserError(
                    f"there is no file {ids_beside(path)} with the item ids of its rows",
                    where=where,
                    remedy="Write one item id a line, in the order of the array's rows",
                )
            more: dict[str, ColumnReader] = {path.stem: partial(_read_array, path)}
        elif ending in TABLES:
            headers = TABLES[ending].headers(path)
            key = next((name for name in (columns.get("item"), "item", "item_id") if name in headers), "item")
            more = table_columns(TABLES[ending], path, key, named, words=ending == ".item")
        else:
            endings = ", ".join((*TABLES, ".npy"))
            raise UserError("files of this kind are not read", where=where, remedy=f"Give one that ends in {endings}")
        twice = sorted(found.keys() & more.keys())
        if twice:
            remedy = "Rename one, or leave it out"
            raise UserError(f"a file before it has a column {twice[0]!r} too", where=where, remedy=remedy)
        found |= more
    lost = [name for name in named if name not in found]
    if any(named[name] in ROLES for name in lost):
        written = ", ".join(f"{header}: {name}" for name, header in columns.items())
        raise UserError("it is the wrong way round", where="dataset.columns", remedy=f"Write {{{written}}}")
    if lost:
        raise UserError(
            f"no file of items has the column {named[lost[0]]!r} (there are: {', '.join(found) or 'no columns'})",
            where=f"dataset.columns.{lost[0]}",
            remedy="Name a header of a file in dataset.items; the columns of events are user, item, time and split",
        )
    return found


def with_catalogue(events: Interactions, columns: Mapping[str, ColumnReader]) -> Interactions:
    """Events whose catalogue has the items of these columns too, after those with events."""
    ids = [events.item_ids, *(read(events.item_ids).ids for read in columns.values())]
    return replace(events, item_ids=object_array(dict.fromkeys(one for part in ids for one in part)))


def table_columns(
    form: TableFormat, path: Path, key: str, named: Mapping[str, str] | None = None, words: bool = False
) -> dict[str, ColumnReader]:
    """The columns of a table of items whose ids are the column ``key``.

    ``named`` has headers by the names their columns are to have. Where no column is named ``title``, one that ends in
    title or name is; where none is named ``attributes``, one of genres or categories is. With ``words`` each word is an
    attribute of its own, where nothing else stands between two.
    """
    headers = form.headers(path)
    chosen(headers, {"item": key}, ("item",), path)
    others = [header for header in headers if header != key]
    names = {header: name for name, header in (named or {}).items() if header in others}
    columns = {names.get(header, header): header for header in others}
    endings = (TITLE, f"_{TITLE}", "name", "_name")
    titles = [header for ending in endings for header in others if header == ending or header.endswith(ending)]
    for name, likely in ((TITLE, titles), (ATTRIBUTES, [name for name in _ATTRIBUTES if name in others])):
        if name not in columns and likely:
            columns[name] = likely[0]

    def read(name: str, header: str, _wanted: NDArray[Any]) -> RawColumn:
        chosen(headers, {name: header}, (name,), path)
        table = form.read(path, [key, header])
        ids, values = texts_of(table.column(key), path, key), _values(table.column(header), path, header)
        if name == ATTRIBUTES and values.ndim == 1:
            values = object_array(plain_attributes(text, words) for text in values)
        if values.ndim == 2:
            ids = ids[np.asarray(table.column(header).is_valid())]
        return RawColumn(ids, values, path)

    return {name: partial(read, name, header) for name, header in columns.items()}


def _read_array(path: Path, _wanted: NDArray[Any]) -> RawColumn:
    """Vectors in a ``.npy`` array [n, d]; ``<stem>.ids.txt`` beside it has the item id of each row, one a line."""
    beside = ids_beside(path)
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        what = f"it cannot be read as an array ({error})"
        raise UserError(what, where=path, remedy="Write it with numpy.save") from error
    if values.ndim != 2 or not values.shape[1] or values.dtype.kind not in "fiu":
        what = f"it is an array of {values.dtype} of shape {list(values.shape)}"
        raise UserError(what, where=path, remedy="Give numbers, one row an item")
    try:
        ids = object_array(beside.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        remedy = "Write one item id a line, in the order of the rows, in UTF-8"
        raise UserError("the item ids of the array's rows cannot be read", where=beside, remedy=remedy) from error
    if len(ids) != len(values):
        what = f"{len(ids):,} ids for the {len(values):,} rows of {path.name}"
        raise UserError(what, where=beside, remedy="Write the item id of each row, one a line")
    return RawColumn(ids, values, path)


def ids_beside(path: Path) -> Path:
    """The file with the item ids of an array's rows."""
    return path.with_suffix(".ids.txt")


def object_array(texts: Iterable[str]) -> NDArray[np.object_]:
    """Texts as an array of Python strings."""
    return np.array(list(texts), dtype=np.object_)


def texts_of(column: Any, path: Path, name: str) -> NDArray[np.object_]:
    """An Arrow column of text, or of what has one way to be written, as texts; "" where it has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        if pa.types.is_floating(column.type) and pc.all(pc.equal(pc.floor(column), column)).as_py():
            column = column.cast(pa.int64())  # whole numbers of a table that once had gaps
        text = column.cast(pa.string()).fill_null("")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        what = f"the column {name} is of type {column.type}"
        raise UserError(what, where=path, remedy="Write text, numbers or vectors") from error
    return np.asarray(text.to_numpy(zero_copy_only=False), dtype=np.object_)


def _values(column: Any, path: Path, name: str) -> NDArray[Any]:
    """Texts [n], or vectors [m, d] of the rows that have one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return texts_of(column, path, name)
    if pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type):
        return texts_of(pc.binary_join(column, ", "), path, name)
    vectors = column.drop_null()
    widths = pc.unique(pc.list_value_length(vectors)).to_pylist()
    flat = pc.list_flatten(vectors)
    number = pa.types.is_floating(flat.type) or pa.types.is_integer(flat.type)
    if not number or len(widths) != 1 or not widths[0] or flat.null_count:
        what = f"lists of {' and '.join(map(str, sorted(widths)[:3]))} numbers" if number else f"of type {kind}"
        remedy = "Give each item a vector of the same width, or null"
        raise UserError(f"the column {name} is {what}", where=path, remedy=remedy)
    return np.asarray(flat.to_numpy()).reshape(len(vectors), widths[0])
