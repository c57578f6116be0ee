"""Made-up data of any size: a few items are popular, and each item has its likely successors."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.arrays import Ints, offsets_of
from recsys_lt.data.formats.items import object_array
from recsys_lt.data.interactions import Interactions, Material
from recsys_lt.data.item_data import TITLE, RawColumn
from recsys_lt.data.sources.source import Request
from recsys_lt.errors import UserError

SHORTEST = 5  # events of a user
_LONGEST = 1_000_000
_STEEPEST = 20  # the second item is then drawn once in a million
_DAY = 86_400
_COLOURS = ("amber", "azure", "coral", "ebony", "golden", "ivory", "jade", "olive", "pearl", "ruby")
_THINGS = ("anchor", "basket", "candle", "drum", "ember", "falcon", "garden", "harbour", "island", "jewel")


@dataclass(frozen=True)
class Synthetic:
    """Seeded users who follow an item's successors, or else draw an item by its popularity.

    Lengths of users are geometric with mean ``mean_length``, and at least ``SHORTEST``. The item of popularity rank r
    is drawn in proportion to r ** -exponent (Zipf). With probability ``follow`` the next item is one of the last one's
    ``successors``, all equally likely. The same seed makes the same data.
    """

    n_users: int = 2_000
    n_items: int = 500
    mean_length: float = 20.0
    exponent: float = 1.0
    follow: float = 0.6
    successors: int = 3
    seed: int = 0

    def locate(self, request: Request) -> Material:
        request.refuse_path()
        request.refuse_raw_dir("Leave it null: synthetic data come from the seed")
        self._check()
        return Material("synthetic 1", (), self.draw, asdict(self), {TITLE: self._titles})

    def _check(self) -> None:
        for key, good, rule in (
            ("n_users", self.n_users >= 1, "at least 1"),
            ("n_items", 2 <= self.n_items < 2**31, "at least 2"),
            ("mean_length", SHORTEST <= self.mean_length <= _LONGEST, f"from {SHORTEST} to {_LONGEST}"),
            ("exponent", 0 <= self.exponent <= _STEEPEST, f"from 0 to {_STEEPEST}"),
            ("follow", 0 <= self.follow <= 1, "from 0 to 1"),
            ("successors", self.successors >= 1, "at least 1"),
            ("seed", self.seed >= 0, "at least 0"),
        ):
            if not good:
                where = f"dataset.source.{key}"
                raise UserError(f"{getattr(self, key)} is not {rule}", where=where, remedy=f"Give {rule}")

    def draw(self) -> Interactions:
        """All users' events, user after user; times are in seconds from 0."""
        # Only uniform numbers are drawn: numpy may change how it makes other distributions of them.
        random = np.random.Generator(np.random.PCG64(self.seed))
        lengths = self._lengths(random)
        offsets = offsets_of(lengths)
        items = self._walk(random, offsets)
        return Interactions(
            np.repeat(np.arange(self.n_users, dtype=np.int32), lengths),
            items,
            object_array(f"u{user}" for user in range(self.n_users)),
            self._item_ids(),
            times=_times(random, offsets),
        )

    def _item_ids(self) -> NDArray[np.object_]:
        return object_array(f"i{item}" for item in range(self.n_items))

    def _titles(self, _wanted: NDArray[Any]) -> RawColumn:
        return RawColumn(self._item_ids(), object_array(map(_title, range(self.n_items))), "synthetic")

    def _lengths(self, random: np.random.Generator) -> Ints:
        extra = self.mean_length - SHORTEST
        if extra == 0:
            return np.full(self.n_users, SHORTEST, dtype=np.int64)
        stop = np.log1p(-1 / (extra + 1))
        lengths: Ints = SHORTEST + np.floor(np.log1p(-random.random(self.n_users)) / stop).astype(np.int64)
        return lengths

    def _walk(self, random: np.random.Generator, offsets: Ints) -> NDArray[np.int32]:
        bounds = np.cumsum(np.arange(1, self.n_items + 1, dtype=np.float64) ** -self.exponent)
        bounds /= bounds[-1]

        def popular(count: int) -> NDArray[np.int32]:
            return np.searchsorted(bounds, random.random(count), side="right").astype(np.int32)

        # Successors are spread evenly, so that following them keeps the tail alive.
        chosen = random.random((self.n_items, self.successors)) * self.n_items
        successors = chosen.astype(np.int32)
        # All users take their step t at once; longest first, those still walking are the first ones.
        shorter = -np.diff(offsets)
        longest_first = np.argsort(shorter, kind="stable")
        starts, shorter = offsets[:-1][longest_first], shorter[longest_first]
        items = np.empty(offsets[-1], dtype=np.int32)
        last = popular(self.n_users)
        items[starts] = last
        for step in range(1, -int(shorter[0])):
            walking = int(np.searchsorted(shorter, -step, side="left"))
            which = (random.random(walking) * self.successors).astype(np.int64)
            followed = random.random(walking) < self.follow
            last = np.where(followed, successors[last[:walking], which], popular(walking))
            items[starts[:walking] + step] = last
        return items


def _times(random: np.random.Generator, offsets: Ints) -> Ints:
    """Users arrive over a year; a day lies between two of a user's events, on average."""
    gaps = random.random(int(offsets[-1]))
    for change in (np.negative, np.log1p):
        change(gaps, out=gaps)
    gaps *= -_DAY
    times: Ints = np.ceil(gaps, out=gaps).astype(np.int64)
    del gaps
    np.cumsum(times, out=times)
    arrival = np.floor(random.random(len(offsets) - 1) * 365 * _DAY).astype(np.int64)
    # Each user's clock starts at their arrival, not where the user before them stopped.
    times += np.repeat(arrival - times[offsets[:-1]], np.diff(offsets))
    return times


def _title(item: int) -> str:
    """Two words and a number: readable, and no two alike."""
    number, thing = divmod(item, len(_THINGS))
    number, colour = divmod(number, len(_COLOURS))
    return f"{_COLOURS[colour]} {_THINGS[thing]} {number + 1}"
