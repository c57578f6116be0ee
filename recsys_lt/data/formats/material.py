"""What a format finds in a folder: the files, and how to read their events and items."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from recsys_lt.data.interactions import Interactions
from recsys_lt.data.item_data import ColumnReader


@dataclass(frozen=True)
class Material:
    """What a dataset is made of: every file that is read, and how; the same always makes the same interactions.

    ``kind`` names the format and its reader, for the user and in the cache's key: change it when the reader's result
    changes. ``settings`` hold whatever else shapes the interactions. ``item_data`` has readers of the items' columns,
    by name.
    """

    kind: str
    files: tuple[Path, ...]
    read: Callable[[], Interactions]
    settings: Mapping[str, str | int | float | None] = field(default_factory=dict)
    item_data: Mapping[str, ColumnReader] = field(default_factory=dict)


class Layout(Protocol):
    """One way in which a dataset's files may lie in a folder."""

    @property
    def wanted(self) -> str:
        """The files it looks for, in words."""

    def find(self, folder: Path) -> Material | None:
        """The material in this folder, or None where it is not laid out so."""
