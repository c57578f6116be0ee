"""Tables in files as Arrow columns: delimited text, Parquet and JSON lines."""

import csv
import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from recsys_lt.errors import UserError

T = TypeVar("T")


class TableFormat(Protocol):
    """A way to write a table into a file."""

    def headers(self, path: Path) -> list[str]:
        """Names of the file's columns."""

    def read(self, path: Path, columns: Sequence[str]) -> Any:
        """Some columns of a file, which are in ``headers``, as a ``pyarrow.Table``, rows in the file's order.

        Raises UserError where the file cannot be parsed, or is text without rows.
        """

    def place(self, path: Path, row: int) -> str:
        """Words for where row number ``row`` is in the file: "line 7"."""


def chosen(headers: Sequence[str], wanted: Mapping[str, str], needed: Collection[str], path: Path) -> dict[str, str]:
    """The column of each role: of the names ``wanted`` by role those that are in ``headers``.

    Raises UserError where a role of ``needed`` has no column, or two columns have its name.
    """
    missing = {role: wanted[role] for role in needed if wanted[role] not in headers}
    if missing:
        listed = ", ".join(repr(name) if name != name.strip() else name for name in headers)
        example = ", ".join(f"{role}: ..." for role in missing)
        remedy = f"Rename columns, or say which they are: dataset.columns={{{example}}}"
        raise UserError(f"no column named {' or '.join(missing.values())} (found: {listed})", where=path, remedy=remedy)
    found = {role: name for role, name in wanted.items() if name in headers}
    twice = [name for name in found.values() if headers.count(name) > 1]
    if twice:
        raise UserError(f"two columns are named {twice[0]}", where=path, remedy="Rename one of them")
    return found


@dataclass(frozen=True)
class Delimited:
    """Text with one row a line and a delimiter between columns.

    A delimiter of several characters needs ``names``: the first columns, for a file without a header. ``quoted`` values
    may stand in double quotes. A ``typed`` header says ``name:type`` (RecBole); the type is left out of the column's
    name.
    """

    delimiter: str = ","
    quoted: bool = True
    names: tuple[str, ...] | None = None
    typed: bool = False
    encoding: str = "utf-8"

    def headers(self, path: Path) -> list[str]:
        written = self._written(path)
        return [name.partition(":")[0] for name in written] if self.typed else written

    def read(self, path: Path, columns: Sequence[str]) -> Any:
        import pyarrow as pa
        import pyarrow.csv as pcsv

        written, headers = self._written(path), self.headers(path)
        chosen = [written[headers.index(name)] for name in columns]
        if len(list(islice(self._rows(path), 2))) < 2 and self.names is None:
            raise UserError("it has a header and no rows", where=path, remedy="Give a file with rows")
        try:
            with self._opened(path) as file:
                table = pcsv.read_csv(
                    file,
                    read_options=pcsv.ReadOptions(
                        column_names=None if self.names is None else written, block_size=1 << 23, encoding=self.encoding
                    ),
                    parse_options=pcsv.ParseOptions(
                        delimiter=self._mark,
                        quote_char='"' if self.quoted else False,
                        newlines_in_values=self.quoted,
                    ),
                    # Numbers are parsed later, where a bad one can be named.
                    convert_options=pcsv.ConvertOptions(
                        column_types=dict.fromkeys(chosen, pa.string()),
                        include_columns=chosen,
                        null_values=[""],
                        strings_can_be_null=True,
                    ),
                )
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            for line, row in self._rows(path):
                if len(row) != len(written):
                    what = f"{len(row)} columns where the first line has {len(written)}"
                    remedy = "Give every line as many columns as the first"
                    raise UserError(what, where=f"{path}, line {line}", remedy=remedy) from error
            raise UserError(f"it cannot be read as text with columns ({error})", where=path) from error
        return table.rename_columns(list(columns))

    def place(self, path: Path, row: int) -> str:
        # Slow, and only on the way to a message: blank lines and quoted line ends shift rows from lines.
        lines = (line for line, _ in self._rows(path))
        return f"line {next(line for n, line in enumerate(lines, self.names is not None) if n == row + 1)}"

    @property
    def _mark(self) -> str:
        return self.delimiter if len(self.delimiter) == 1 else "\t"

    def _opened(self, path: Path) -> Any:
        """The file with ``_mark`` between its columns."""
        if self._mark == self.delimiter:
            return path.open("rb")
        # Arrow splits at one character; such files (MovieLens .dat) are small and hold no tabs.
        return io.BytesIO(path.read_bytes().replace(self.delimiter.encode(), self._mark.encode()))

    def _written(self, path: Path) -> list[str]:
        """The columns as the header writes them."""
        _, first = next(self._rows(path), (0, []))
        if not first:
            raise UserError("the file is empty", where=path, remedy="Give a file with rows")
        if self.names is None:
            other = next((mark for mark in ";\t,|" if len(first) == 1 and mark in first[0]), None)
            if other is not None:
                what = f"the columns are separated by {other!r}, not by {self._mark!r}"
                raise UserError(what, where=path, remedy="Save it as .csv with commas, or as .tsv with tabs")
            return first
        return [*self.names, *(f"column {n}" for n in range(len(self.names), len(first)))][: len(first)]

    def _rows(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """Line number (of its last line) and values of each row that is not blank."""
        encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        try:
            with io.TextIOWrapper(self._opened(path), encoding, newline="") as file:
                reader = csv.reader(
                    file, delimiter=self._mark, quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
                )
                for row in reader:
                    if row:
                        yield reader.line_num, row
        except UnicodeDecodeError as error:
            raise UserError("it is not UTF-8 text", where=path, remedy="Save it as UTF-8") from error
        except csv.Error as error:
            raise UserError(f"it cannot be read as text with columns ({error})", where=path) from error


class Parquet:
    """Parquet."""

    def headers(self, path: Path) -> list[str]:
        return self._read(path, lambda file: list(file.schema_arrow.names))

    def read(self, path: Path, columns: Sequence[str]) -> Any:
        return self._read(path, lambda file: file.read(columns=list(columns)))

    def place(self, path: Path, row: int) -> str:
        return f"row {row + 1}"

    def _read(self, path: Path, read: Callable[[Any], T]) -> T:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return read(pq.ParquetFile(path))
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"it cannot be read as Parquet ({error})", where=path, remedy="Write it again") from error


@dataclass(frozen=True)
class JsonLines:
    """One JSON object a line, gzipped or not; ``fields`` has the Arrow type of each; one that a line lacks is null."""

    fields: Mapping[str, str]

    def headers(self, path: Path) -> list[str]:
        return list(self.fields)

    def read(self, path: Path, columns: Sequence[str]) -> Any:
        import pyarrow as pa
        import pyarrow.json as pjson

        schema = pa.schema([(name, pa.type_for_alias(self.fields[name])) for name in columns])
        try:
            return pjson.read_json(
                str(path),
                # A block must hold the longest line; reviews run to tens of kilobytes.
                read_options=pjson.ReadOptions(block_size=1 << 24),
                parse_options=pjson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
            )
        except (pa.ArrowInvalid, OSError) as error:
            what = f"it cannot be read as JSON lines ({error})"
            raise UserError(what, where=path, remedy="Fetch the file again: it may be cut short") from error

    def place(self, path: Path, row: int) -> str:
        return f"line {row + 1}"
