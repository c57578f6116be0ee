"""What every source is read into, one row an event before any filtering or splitting, and the files it is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.item_data import ColumnReader

Codes = NDArray[np.int32]
Texts = NDArray[np.object_]
Times = NDArray[np.int64 | np.float64]


class Mark(IntEnum):
    """What an event of a source that comes ready split is for."""

    TRAIN = 0
    HISTORY = 1
    """Input before a target, but not for training."""
    VALID = 2
    TEST = 3


@dataclass(frozen=True)
class Interactions:
    """A table of E events in the order in which the source lists them.

    Parameters
    ----------
    users, items
        Places in ``user_ids`` and ``item_ids``, [E] int32.
    user_ids, item_ids
        The source's own ids, each once, as text, [U] and [I]. ``item_ids`` is the catalogue: it may
        hold items without an event.
    times
        When each event happened, in the source's unit, [E]; None where the order in the source is all
        there is.
    marks
        What each event is for (``Mark``), [E] int8; only for a source that comes ready split.
    repeats_are_visits
        The source lists each user's events in order, so that an item seen again is a visit of its
        own and never a row written twice.
    unit
        Seconds in one unit of ``times``.
    place
        Words for where the source says event number e ("line 7"), for messages.
    """

    users: Codes
    items: Codes
    user_ids: Texts
    item_ids: Texts
    times: Times | None = None
    marks: NDArray[np.int8] | None = None
    repeats_are_visits: bool = False
    unit: float = 1.0
    place: Callable[[int], str] = "event {}".format

    def __len__(self) -> int:
        return len(self.users)


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


@dataclass(frozen=True)
class EventsAndItems:
    """A file of events and, where there is one, a file of items beside it; a name in .gz may be unpacked.

    ``read`` reads the events, ``columns`` finds the columns of the items.
    """

    kind: str
    events: str
    items: str
    read: Callable[[Path], Interactions]
    columns: Callable[[Path], Mapping[str, ColumnReader]]
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def wanted(self) -> str:
        return f"{self.events} (and {self.items} for titles)"

    def find(self, folder: Path) -> Material | None:
        events = _packed_or_not(folder / self.events)
        return None if events is None else self.material(events)

    def material(self, events: Path) -> Material:
        """The material of a file of events, whatever its name, and of the items beside it."""
        items = _packed_or_not(events.with_name(self.items))
        files = (events,) if items is None else (events, items)
        columns = self.columns(items) if items is not None else {}
        return Material(self.kind, files, lambda: self.read(events), self.settings, columns)


def _packed_or_not(path: Path) -> Path | None:
    return next((one for one in (path, path.with_name(path.name.removesuffix(".gz"))) if one.is_file()), None)
