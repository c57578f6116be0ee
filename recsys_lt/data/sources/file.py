"""A user's own file, read by what its name ends in."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from recsys_lt.data.formats.events import COLUMNS, ROLES, read_events
from recsys_lt.data.formats.recbole import COLUMNS as RECBOLE
from recsys_lt.data.formats.recbole import atomic_files
from recsys_lt.data.formats.sequence_text import SEQUENCE_TEXT
from recsys_lt.data.formats.tables import Delimited, Parquet, TableFormat
from recsys_lt.data.interactions import Material
from recsys_lt.data.sources.source import Request
from recsys_lt.errors import UserError

Reader = Callable[[Path, Mapping[str, str], Collection[str]], Material]


def _table(kind: str, form: TableFormat) -> Reader:
    return lambda path, columns, needed: Material(kind, (path,), lambda: read_events(form, path, columns, needed))


#: Ending of the file -> usual names of its columns, and its reader.
_READERS: Mapping[str, tuple[Mapping[str, str], Reader]] = {
    ".csv": (COLUMNS, _table("CSV", Delimited())),
    ".tsv": (COLUMNS, _table("TSV", Delimited("\t"))),
    ".parquet": (COLUMNS, _table("Parquet", Parquet())),
    ".inter": (RECBOLE, lambda path, columns, needed: atomic_files(path.stem, columns, needed).material(path)),
    ".txt": ({}, lambda path, _columns, _needed: SEQUENCE_TEXT.material(path)),
}


class File:
    """``dataset.path``.

    A .csv, .tsv or .parquet file has columns user, item and, if there are times, timestamp (a number
    or an ISO-8601 date), or columns that ``dataset.columns`` names; other columns are not read. With
    ``dataset.split=as_given`` it has a column split with the words train, valid and test. An .inter file is
    RecBole's. A .txt file has a user and their items, oldest first, on each line. Ids are read as text: 1 and
    "1" are one id. Columns of items come from the .item file beside an .inter, the items.tsv beside a .txt,
    and from ``dataset.items``.
    """

    def locate(self, request: Request) -> Material:
        request.refuse_raw_dir("Name the file itself in dataset.path")
        path = request.path
        if path is None:
            remedy = "Set dataset.path=interactions.csv, or your file"
            raise UserError("no file is named", where="dataset.path", remedy=remedy)
        if not path.exists():
            raise UserError("there is no such file", where=path, remedy="Set dataset.path to your file")
        if not path.is_file() or path.suffix.lower() not in _READERS:
            what = "it is not a file" if not path.is_file() else f"a file named *{path.suffix} cannot be read"
            raise UserError(what, where=path, remedy=f"Give a file that ends in {', '.join(_READERS)}")
        usual, reader = _READERS[path.suffix.lower()]
        own = {role: request.columns[role] for role in ROLES if role in request.columns and usual}
        split = {"split": "split"} if request.given_split and usual else {}
        columns = {role: name for role, name in {**usual, **split, **own}.items() if role != "split" or split}
        return reader(path, columns, [role for role in columns if role != "time" or role in own])
