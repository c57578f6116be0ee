"""RecBole's atomic files: tab-separated, with ``name:type`` headers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from recsys_lt.data.formats.events import read_events
from recsys_lt.data.formats.items import TABLES, object_array, table_columns
from recsys_lt.data.formats.tables import Delimited
from recsys_lt.data.interactions import EventsAndItems, Material
from recsys_lt.data.item_data import TITLE, ColumnReader, RawColumn

_INTER = Delimited("\t", quoted=False, typed=True)
COLUMNS = {"user": "user_id", "item": "item_id", "time": "timestamp"}
_YEAR = "release_year"
_NO_TITLE = "unkonwn"  # as RecBole spells it, for GroupLens' "unknown", a film without a year


@dataclass(frozen=True)
class RecBoleAtomic:
    """``<name>.inter``, or the only ``.inter`` of the folder, and the ``.item`` beside it."""

    name: str

    @property
    def wanted(self) -> str:
        return f"{self.name}.inter (RecBole, and {self.name}.item for titles)"

    def find(self, folder: Path) -> Material | None:
        named = folder / f"{self.name}.inter"
        found = [named] if named.is_file() else sorted(folder.glob("*.inter"))
        return atomic_files(found[0].stem).find(folder) if len(found) == 1 else None


def atomic_files(
    stem: str, columns: Mapping[str, str] = COLUMNS, needed: Collection[str] = ("user", "item")
) -> EventsAndItems:
    """``<stem>.inter`` and, where there is one, ``<stem>.item`` (``columns`` and ``needed`` as in ``read_events``)."""
    return EventsAndItems(
        "RecBole atomic files",
        f"{stem}.inter",
        f"{stem}.item",
        lambda inter: read_events(_INTER, inter, columns, needed),
        _columns,
    )


def _columns(item: Path) -> dict[str, ColumnReader]:
    readers = table_columns(TABLES[".item"], item, "item_id", words=True)
    if TITLE in readers and _YEAR in readers:
        readers[TITLE] = partial(_with_year, readers[TITLE], readers[_YEAR])
    return readers


def _with_year(title: ColumnReader, year: ColumnReader, wanted: NDArray[Any]) -> RawColumn:
    """Titles as the owner wrote them: RecBole's files of MovieLens have the year in a column of its own."""

    def full(text: str, when: str) -> str:
        if text.strip() == _NO_TITLE:
            return "unknown"
        return f"{text.strip()} ({when.strip()})" if when.strip() else text

    column = title(wanted)
    return column._replace(values=object_array(map(full, column.values, year(wanted).values)))
