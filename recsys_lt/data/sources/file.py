"""A user's own file, read by what its name ends in."""

from collections.abc import Callable, Mapping
from pathlib import Path

from recsys_lt.data.formats.delimited import Delimited
from recsys_lt.data.formats.material import Material
from recsys_lt.data.formats.parquet import read_parquet
from recsys_lt.data.formats.recbole import recbole_material
from recsys_lt.data.formats.sequence_text import sequence_material
from recsys_lt.data.sources.source import Request
from recsys_lt.errors import UserError

_READERS: Mapping[str, Callable[[Path], Material]] = {
    ".csv": lambda path: Material("CSV", (path,), lambda: Delimited(",").read(path)),
    ".tsv": lambda path: Material("TSV", (path,), lambda: Delimited("\t").read(path)),
    ".parquet": lambda path: Material("Parquet", (path,), lambda: read_parquet(path)),
    ".inter": recbole_material,
    ".txt": sequence_material,
}


class File:
    """``dataset.path``.

    A .csv, .tsv or .parquet file has columns user, item and, if there are times, timestamp (a number
    or an ISO-8601 date); other columns are not read. An .inter file is RecBole's. A .txt file has a
    user and their items, oldest first, on each line. Ids are read as text: 1 and "1" are one id.
    Titles come from the .item file beside an .inter, and the items.tsv beside a .txt.
    """

    def locate(self, request: Request) -> Material:
        request.refuse_raw_dir("Name the file itself in dataset.path")
        path = request.path
        if path is None:
            raise UserError(
                "no file is named",
                where="dataset.path",
                remedy="Set dataset.path=interactions.csv, or your file",
            )
        if not path.exists():
            raise UserError("there is no such file", where=path, remedy="Set dataset.path to your file")
        reader = _READERS.get(path.suffix.lower())
        if reader is None or not path.is_file():
            what = "it is not a file" if not path.is_file() else f"a file named *{path.suffix} cannot be read"
            raise UserError(what, where=path, remedy=f"Give a file that ends in {', '.join(_READERS)}")
        return reader(path)
