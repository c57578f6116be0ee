"""Columns of ids and times, checked: from Arrow to ``Interactions``.

Ids are text, so 1 and "1" are one id; "1" and "1.0" side by side are an error, never two items. A
time is a number, or an ISO-8601 date or date-time. Numbers are seconds, unless they are too large to be:
then thousandths, millionths or billionths of one.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recsys_lt.data.interactions import Codes, Interactions, Texts, Times
from recsys_lt.errors import UserError

Place = Callable[[int], str]

#: Seconds in the units Arrow names.
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
#: Seconds since 1970 do not reach this before the year 5138; in milliseconds, that was in 1973.
_NO_SECONDS = 1e11


def interactions_of(user: Any, item: Any, time: Any | None, *, path: Path, place: Place) -> Interactions:
    """Interactions from Arrow columns.

    Parameters
    ----------
    user, item, time
        ``pyarrow.ChunkedArray`` of any type an id or a time may have, [E]; ``time`` may be None.
    path
        The file, for messages.
    place
        Words for the place of row r in the file.

    Raises
    ------
    UserError
        No rows; an id or a time is missing or not readable, naming the first such row.
    """
    if len(user) == 0:
        raise UserError("there are no interactions in it", where=path, remedy="Give a file with events")
    users, user_ids = _ids(user, "user", path, place)
    items, item_ids = _ids(item, "item", path, place)
    times, unit = (None, 1.0) if time is None else _times(time, path, place)
    return Interactions(users, items, user_ids, item_ids, times, unit=unit, place=place)


def _ids(column: Any, role: str, path: Path, place: Place) -> tuple[Codes, Texts]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count:
        _missing(column, role, path, place)
    kind = column.type
    if pa.types.is_dictionary(kind):
        encoded = column
    elif pa.types.is_floating(kind):
        # A table that once had gaps holds whole numbers as floats: 7.0 is the id "7".
        try:
            encoded = column.cast(pa.int64()).cast(pa.string()).dictionary_encode()
        except pa.ArrowInvalid as error:
            raise UserError(
                f"the {role} column holds fractions", where=path, remedy="Write ids as text or whole numbers"
            ) from error
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind):
        encoded = column.dictionary_encode()
    else:
        raise UserError(f"the {role} column is of type {kind}", where=path, remedy="Write ids as text or whole numbers")
    encoded = encoded.unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    names = encoded.dictionary.cast(pa.string())
    codes = encoded.indices.to_numpy().astype(np.int32, copy=False)

    empty = pc.index(names, "").as_py()
    if empty >= 0:
        _raise_missing(role, path, place(int(np.argmax(codes == empty))))
    plain = names.filter(pc.match_substring_regex(names, r"^-?[0-9]+\.0+$"))
    if len(plain):
        whole = pc.replace_substring_regex(plain, r"\.0+$", "")
        both = plain.filter(pc.is_in(whole, value_set=names))
        if len(both):
            odd = both[0].as_py()
            row = int(np.argmax(codes == pc.index(names, odd).as_py()))
            raise UserError(
                f"{role} ids are text, and both {odd.split('.')[0]} and {odd} ({place(row)}) occur",
                where=path,
                remedy="Write each id in one way",
            )
    return codes, names.to_numpy(zero_copy_only=False).astype(np.object_, copy=False)


def _times(column: Any, path: Path, place: Place) -> tuple[Times, float]:
    """Times as numbers, and the seconds in one of their units."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count:
        _missing(column, "timestamp", path, place)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    written = column
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _parsed(column, path, place)
    kind = column.type
    if pa.types.is_uint64(kind):
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid:
            row = pc.index(pc.greater(column, pa.scalar(2**63 - 1, pa.uint64())), True).as_py()
            _bad_time(written, row, path, place)
        kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date64(kind) or pa.types.is_integer(kind):
        whole = np.asarray(column.cast(pa.int64()).to_numpy(), dtype=np.int64)
        if pa.types.is_integer(kind):
            return whole, _unit_of(whole)
        return whole, _UNITS["ms" if pa.types.is_date64(kind) else kind.unit]
    if pa.types.is_date32(kind):
        return np.asarray(column.cast(pa.int32()).to_numpy(), dtype=np.int64), 86_400.0
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = pc.cast(column, pa.float64()).to_numpy()
        if not np.isfinite(numbers).all():
            _bad_time(written, int(np.argmin(np.isfinite(numbers))), path, place)
        times = np.asarray(numbers, dtype=np.float64)
        return times, _unit_of(times)
    raise UserError(f"the timestamp column is of type {kind}", where=path, remedy="Write times as numbers")


def _unit_of(times: Times) -> float:
    """Seconds in the unit of plain numbers, by how large the latest is."""
    latest = float(times.max())
    return next((unit for n, unit in enumerate(_UNITS.values()) if latest < _NO_SECONDS * 1000**n), _UNITS["ns"])


def _parsed(column: Any, path: Path, place: Place) -> Any:
    """Text as whole numbers, else as fractions, else as ISO-8601 without or with a zone."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # Arrow takes 0x1F for a number, Python's float does not; a blank before a number is the other way about.
    odd = pc.index(pc.match_substring_regex(column, r"^[+-]?0[xX]|\s$|^\s"), True).as_py()
    if odd >= 0:
        _bad_time(column, odd, path, place)
    for kind in (pa.int64(), pa.float64(), pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    dates = not _is_number(column[0].as_py())
    for row, text in enumerate(column.to_pylist()):
        if (dates and not _is_date(text)) or (not dates and not _is_number(text)):
            _bad_time(column, row, path, place)
    raise UserError("its timestamps are not of one kind", where=path, remedy="Write every time in one way")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_date(text: str) -> bool:
    from datetime import datetime

    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _bad_time(column: Any, row: int, path: Path, place: Place) -> None:
    raise UserError(
        f"the timestamp {column[row].as_py()!r} is not a time",
        where=f"{path}, {place(row)}",
        remedy="Write every time as a number or as an ISO-8601 date",
    )


def _missing(column: Any, role: str, path: Path, place: Place) -> None:
    import pyarrow.compute as pc

    _raise_missing(role, path, place(pc.index(pc.is_null(column), True).as_py()))


def _raise_missing(role: str, path: Path, place: str) -> None:
    raise UserError(f"the {role} is missing", where=f"{path}, {place}", remedy="Fill it in or leave the row out")
