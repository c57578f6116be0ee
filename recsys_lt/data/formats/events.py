"""Events of a table: columns of ids, times and parts, checked, as ``Interactions``.

Ids are text, so 1 and "1" are one id; "1" and "1.0" side by side are an error, never two items. A
time is a number, or an ISO-8601 date or date-time. Numbers are seconds, unless they are too large to be:
then thousandths, millionths or billionths of one.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.formats.tables import TableFormat, chosen
from recsys_lt.data.interactions import Codes, Interactions, Mark, Texts, Times
from recsys_lt.errors import UserError

Refuse = Callable[..., None]
#: Names of the columns of events, by role.
COLUMNS = {"user": "user", "item": "item", "time": "timestamp"}
ROLES = (*COLUMNS, "split")

#: Seconds in the units Arrow names.
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
#: Seconds since 1970 do not reach this before the year 5138; in milliseconds, that was in 1973.
_NO_SECONDS = 1e11


def read_events(
    form: TableFormat, path: Path, columns: Mapping[str, str], needed: Collection[str] = ("user", "item")
) -> Interactions:
    """The events of a file, in its order; ``columns`` names its columns by role: user, item, time and split.

    Raises UserError where the file cannot be parsed, lacks a column of a ``needed`` role, or has no rows; or an id, a
    time or a part is missing or not readable, naming the first such row.
    """
    found = chosen(form.headers(path), columns, needed, path)
    table = form.read(path, list(found.values()))
    return interactions_of({role: table.column(name) for role, name in found.items()}, path, form.place)


def interactions_of(columns: Mapping[str, Any], path: Path, place: Callable[[Path, int], str]) -> Interactions:
    """Interactions from Arrow columns [E] by role, of any type an id or a time may have.

    ``place`` gives words for where a row is in the file. Raises UserError as ``read_events``.
    """
    import pyarrow.compute as pc

    if len(columns["user"]) == 0:
        raise UserError("there are no interactions in it", where=path, remedy="Give a file with events")

    def refuse(bad: Any, what: Callable[[int], str], remedy: str = "Fill it in or leave the row out") -> None:
        """Raise ``UserError`` for the first row that is True, if there is one."""
        row = pc.index(bad, True).as_py()
        if row >= 0:
            raise UserError(what(row), where=f"{path}, {place(path, row)}", remedy=remedy)

    users, user_ids = _ids(columns["user"], "user", path, refuse)
    items, item_ids = _ids(columns["item"], "item", path, refuse)
    times, unit = _times(columns["time"], path, refuse) if "time" in columns else (None, 1.0)
    marks = _marks(columns["split"], path, refuse) if "split" in columns else None
    at = partial(place, path)
    return Interactions(users, items, user_ids, item_ids, times, marks=marks, unit=unit, place=at)


def _marks(column: Any, path: Path, refuse: Refuse) -> NDArray[np.int8]:
    import pyarrow as pa

    codes, words = _ids(column, "split", path, refuse)
    known = {mark.name.lower(): mark for mark in Mark}
    marks = np.array([known.get(word, -1) for word in words], dtype=np.int8)[codes]
    refuse(pa.array(marks < 0), lambda row: f"{words[codes[row]]!r} is no part of a split", f"Write {', '.join(known)}")
    return marks


def _ids(column: Any, role: str, path: Path, refuse: Refuse) -> tuple[Codes, Texts]:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    kind = column.type
    if types.is_floating(kind):
        # A table that once had gaps holds whole numbers as floats: 7.0 is the id "7".
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid as error:
            what = f"the {role} column holds fractions"
            raise UserError(what, where=path, remedy="Write ids as text or whole numbers") from error
    elif not any(one(kind) for one in (types.is_string, types.is_large_string, types.is_integer, types.is_dictionary)):
        raise UserError(f"the {role} column is of type {kind}", where=path, remedy="Write ids as text or whole numbers")
    texts = column.cast(kind.value_type) if types.is_dictionary(kind) else column
    if not (types.is_string(texts.type) or types.is_large_string(texts.type)):
        texts = texts.cast(pa.string())
    refuse(pc.equal(texts.fill_null(""), ""), lambda _row: f"the {role} is missing")
    encoded = texts.dictionary_encode().unify_dictionaries()
    names = encoded.chunk(0).dictionary
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])

    plain = names.filter(pc.match_substring_regex(names, r"^-?[0-9]+\.0+$"))
    both = plain.filter(pc.is_in(pc.replace_substring_regex(plain, r"\.0+$", ""), value_set=names))
    if len(both):
        odd = both[0].as_py()
        refuse(
            pc.equal(texts, odd),
            lambda _row: f"{role} ids are text, and both {odd.split('.')[0]} and {odd} occur",
            "Write each id in one way",
        )
    return codes, names.to_numpy(zero_copy_only=False).astype(np.object_, copy=False)


def _times(column: Any, path: Path, refuse: Refuse) -> tuple[Times, float]:
    """Times as numbers, and the seconds in one of their units."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    def refuse_times(bad: Any) -> None:
        remedy = "Write every time as a number or as an ISO-8601 date"
        refuse(bad, lambda row: f"the timestamp {column[row].as_py()!r} is not a time", remedy)

    refuse(pc.is_null(column), lambda _row: "the timestamp is missing")
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    numbers = column
    if types.is_string(column.type) or types.is_large_string(column.type):
        # Arrow takes 0x1F for a number, Python's float does not; a blank before a number is the other way about.
        refuse_times(pc.match_substring_regex(column, r"^[+-]?0[xX]|\s$|^\s"))
        numbers = _parsed(column, path, refuse_times)
    kind = numbers.type
    if types.is_date(kind):
        numbers, kind = numbers.cast(pa.timestamp("ms")), pa.timestamp("ms")
    if types.is_timestamp(kind):
        return np.asarray(numbers.cast(pa.int64())), _UNITS[kind.unit]
    if types.is_integer(kind):
        if types.is_uint64(kind):
            refuse_times(pc.greater(numbers, pa.scalar(2**63 - 1, kind)))
        times = np.asarray(numbers.cast(pa.int64()))
    elif types.is_floating(kind) or types.is_decimal(kind):
        refuse_times(pc.invert(pc.is_finite(numbers)))
        times = np.asarray(numbers.cast(pa.float64()))
    else:
        raise UserError(f"the timestamp column is of type {kind}", where=path, remedy="Write times as numbers")
    # How large the latest is tells the unit of plain numbers.
    latest = float(times.max())
    return times, next((unit for n, unit in enumerate(_UNITS.values()) if latest < _NO_SECONDS * 1000**n), 1e-9)


def _parsed(column: Any, path: Path, refuse_times: Callable[[Any], None]) -> Any:
    """Text as whole numbers, else as fractions, else as ISO-8601 without or with a zone."""
    import pandas as pd
    import pyarrow as pa

    for kind in (pa.int64(), pa.float64(), pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    text = column.to_pandas()
    parsed = pd.to_numeric(text, errors="coerce")
    if not np.isfinite(parsed.iloc[0]):
        parsed = pd.to_datetime(text, errors="coerce", format="ISO8601", utc=True)
    refuse_times(pa.array(parsed.isna()))
    raise UserError("its timestamps are not of one kind", where=path, remedy="Write every time in one way")
