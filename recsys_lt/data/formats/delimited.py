"""Text with one event a line and columns between delimiters: CSV, TSV and their kin, through Arrow."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_lt.data.formats.columns import interactions_of
from recsys_lt.data.interactions import Interactions
from recsys_lt.errors import UserError


@dataclass(frozen=True)
class Delimited:
    """How a delimited file is written, and which of its columns hold what.

    Parameters
    ----------
    delimiter
        What stands between columns; longer than one character only where ``names`` is given.
    quoted
        Whether a value may stand in double quotes.
    names
        The columns, for a file without a header.
    typed
        Whether the header says ``name:type`` (RecBole).
    user, item, time
        Names of the columns.
    time_required
        Whether a file without the time column is refused.
    """

    delimiter: str = ","
    quoted: bool = True
    names: tuple[str, ...] | None = None
    typed: bool = False
    user: str = "user"
    item: str = "item"
    time: str = "timestamp"
    time_required: bool = False

    def read(self, path: Path) -> Interactions:
        """Read the file's events, in its order.

        Raises
        ------
        UserError
            The file is empty, lacks a column or a value, or cannot be parsed.
        """
        import pyarrow as pa
        import pyarrow.csv as pcsv

        header = self._header(path)
        user, item, time = self._columns(header, path)
        text = pa.string()
        # Ids repeat, so a dictionary holds each once; times are parsed later, where a bad one can be named.
        types: dict[str, Any] = {user: pa.dictionary(pa.int32(), text), item: pa.dictionary(pa.int32(), text)}
        if time is not None:
            types[time] = text
        try:
            table = pcsv.read_csv(
                self._stream(path),
                read_options=pcsv.ReadOptions(
                    column_names=None if self.names is None else list(self.names), block_size=1 << 23
                ),
                parse_options=pcsv.ParseOptions(
                    delimiter=self.delimiter if len(self.delimiter) == 1 else "\t",
                    quote_char='"' if self.quoted else False,
                    newlines_in_values=self.quoted,
                ),
                convert_options=pcsv.ConvertOptions(
                    column_types=types,
                    include_columns=list(types),
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise self._unparsed(path, len(header), error) from error
        if table.num_rows == 0:
            raise UserError("it has a header and no rows", where=path, remedy="Give a file with events")
        return interactions_of(
            table.column(user),
            table.column(item),
            None if time is None else table.column(time),
            path=path,
            place=lambda row: self._line(path, row),
        )

    def _header(self, path: Path) -> list[str]:
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                first = next((row for _, row in self._rows(file)), None)
        except UnicodeDecodeError as error:
            raise _not_utf8(path) from error
        if first is None:
            raise UserError("the file is empty", where=path, remedy="Give a file with events")
        return first if self.names is None else list(self.names)

    def _columns(self, header: Sequence[str], path: Path) -> tuple[str, str, str | None]:
        plain = [name.partition(":")[0] if self.typed else name for name in header]
        found = {name: header[plain.index(name)] for name in (self.user, self.item, self.time) if name in plain}
        needed = [self.user, self.item, *([self.time] if self.time_required else [])]
        missing = [name for name in needed if name not in found]
        listed = ", ".join(repr(name) if name != name.strip() else name for name in plain)
        if missing:
            raise UserError(
                f"no column named {' or '.join(missing)} (found: {listed})",
                where=path,
                remedy=f"Name the columns {self.user}, {self.item} and, if there are times, {self.time}",
            )
        twice = [name for name in found if plain.count(name) > 1]
        if twice:
            raise UserError(f"two columns are named {twice[0]}", where=path, remedy="Rename one of them")
        return found[self.user], found[self.item], found.get(self.time)

    def _stream(self, path: Path) -> Any:
        if len(self.delimiter) == 1:
            return str(path)
        # Arrow splits at one character only; such files (MovieLens .dat) are small and hold no tabs.
        return io.BytesIO(path.read_bytes().replace(self.delimiter.encode(), b"\t"))

    def _rows(self, file: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
        """Line number (of its last line) and values of each row that is not blank."""
        if len(self.delimiter) > 1:
            for line, text in enumerate(file, 1):
                if text.strip("\r\n"):
                    yield line, text.rstrip("\r\n").split(self.delimiter)
            return
        reader = csv.reader(
            file, delimiter=self.delimiter, quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        )
        for row in reader:
            if row:
                yield reader.line_num, row

    def _line(self, path: Path, row: int) -> str:
        # Slow, and only on the way to a message: blank lines and quoted line ends shift rows from lines.
        skip = row + (self.names is None)
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, (line, _) in enumerate(self._rows(file)):
                if number == skip:
                    return f"line {line}"
        return f"row {row + 1}"

    def _unparsed(self, path: Path, width: int, error: Exception) -> UserError:
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                for line, row in self._rows(file):
                    if len(row) != width:
                        return UserError(
                            f"{len(row)} columns where the first line has {width}",
                            where=f"{path}, line {line}",
                            remedy="Give every line as many columns as the first",
                        )
        except UnicodeDecodeError:
            return _not_utf8(path)
        except csv.Error as trouble:
            return UserError(f"it cannot be read as text with columns ({trouble})", where=path)
        return UserError(f"it cannot be read as text with columns ({error})", where=path)


def _not_utf8(path: Path) -> UserError:
    return UserError("it is not UTF-8 text", where=path, remedy="Save it as UTF-8")
