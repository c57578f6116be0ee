"""RecBole's atomic files: tab-separated, with ``name:type`` headers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recsys_lt.data.formats.attributes import attributes_of
from recsys_lt.data.formats.delimited import Delimited
from recsys_lt.data.formats.material import Material
from recsys_lt.data.formats.tab_titles import read_tab_table
from recsys_lt.data.interactions import Interactions, titles_of
from recsys_lt.errors import UserError

_INTER = Delimited("\t", quoted=False, typed=True, user="user_id", item="item_id")


@dataclass(frozen=True)
class RecBoleAtomic:
    """``<name>.inter``, or the only ``.inter`` of the folder, and the ``.item`` beside it.

    Parameters
    ----------
    name
        The dataset's name.
    """

    name: str

    @property
    def wanted(self) -> str:
        return f"{self.name}.inter (RecBole, and {self.name}.item for titles)"

    def find(self, folder: Path) -> Material | None:
        named = folder / f"{self.name}.inter"
        found = [named] if named.is_file() else sorted(folder.glob("*.inter"))
        return recbole_material(found[0]) if len(found) == 1 else None


def recbole_material(inter: Path) -> Material:
    """The ``.inter`` file and, where there is one, the ``.item`` file of the same name."""
    item = inter.with_suffix(".item")
    if not item.is_file():
        return Material("RecBole atomic files", (inter,), lambda: _INTER.read(inter))
    return Material("RecBole atomic files", (inter, item), lambda: _read(inter, item))


def _read(inter: Path, item: Path) -> Interactions:
    events = _INTER.read(inter)
    rows = read_tab_table(item)
    if rows and "item_id" not in rows[0]:
        raise UserError(
            f"no column named item_id (found: {', '.join(rows[0])})",
            where=item,
            remedy="Name the column of ids item_id:token, or move the file away to read no titles",
        )
    keys = [row["item_id"] for row in rows]
    known = attributes_of(events.item_ids, rows, keys, words=True)
    column = _title_column(list(rows[0])) if rows else None
    titles = (
        None if column is None else titles_of(events.item_ids, {row["item_id"]: _title(row, column) for row in rows})
    )
    return replace(events, item_titles=titles, item_attributes=known)


def _title(row: Mapping[str, str], column: str) -> str:
    """The title as the owner wrote it: RecBole's files of MovieLens have its year in a column of its own."""
    title, year = row[column].strip(), row.get("release_year", "").strip()
    if title == _NO_TITLE:
        return "unknown"
    return f"{title} ({year})" if year else title


_NO_TITLE = "unkonwn"  # as RecBole spells it, for GroupLens' "unknown", a film without a year


def _title_column(names: Sequence[str]) -> str | None:
    """RecBole's datasets call it title, movie_title, item_name and so on."""
    for ending in ("title", "name"):
        for name in names:
            if name == ending or name.endswith(f"_{ending}"):
                return name
    return None
