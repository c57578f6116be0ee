"""Item ids of generative recommenders: each item as a sequence of tokens, made before a run from its training data."""

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from recsys_lt.data.arrays import Ints, ragged_index
from recsys_lt.data.needs import Artifact
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError

_CODES, _FACTS = "codes.npy", "item_ids.json"


@dataclass(frozen=True, eq=False)
class IdMap:
    """Token sequences of the I items of a catalogue.

    Parameters
    ----------
    codes
        Row i is item i's tokens, -1 after its last one, [I, L] int32. A token is a number of its level, from 0.
    sizes
        Number of tokens of each level, L ints.
    origin
        What the ids are made of, in words.
    shared
        Whether equal numbers of different levels are one token (digits).
    collision_token
        Whether the last level only tells items apart that have the same tokens before it.
    leaks
        Whether they are made of interactions that are held out for validation and test.

    Raises
    ------
    UserError
        If there is no item, an item has no token, two items have the same tokens, those of an item begin those of
        another, a token is not of its level, or -1 stands before a token.
    """

    codes: NDArray[np.int32]
    sizes: tuple[int, ...]
    origin: str
    shared: bool = False
    collision_token: bool = False
    leaks: bool = False

    def __post_init__(self) -> None:
        codes = self.codes
        if codes.ndim != 2 or codes.shape[1] != len(self.sizes) or not codes.size:
            self._refuse(f"its codes are of shape {list(codes.shape)}, for {len(self.sizes)} levels")
        given = codes >= 0
        if not given[:, 0].all():
            self._refuse(f"item number {int(given[:, 0].argmin())} has no token")
        if (given[:, 1:] & ~given[:, :-1]).any():
            self._refuse("an item has a token after the end of its tokens")
        beyond = np.argwhere(codes >= np.array(self.sizes))
        if len(beyond):
            item, level = beyond[0]
            self._refuse(
                f"item number {item} has token {codes[item, level]} of {self.sizes[level]} at level {level + 1}"
            )
        order = np.lexsort(codes.T[::-1])
        first, second = codes[order[:-1]], codes[order[1:]]  # a path stands before those that it begins
        begins = np.flatnonzero(((first == second) | (first < 0)).all(1))
        if len(begins):
            pair, same = order[begins[0] : begins[0] + 2], (first[begins[0]] == second[begins[0]]).all()
            what = "have the same tokens" if same else "overlap: the tokens of the first are a prefix of the second's"
            self._refuse(f"item numbers {pair[0]} and {pair[1]} {what}")

    def _refuse(self, what: str) -> None:
        raise UserError(what, where=f"item ids ({self.origin})", remedy="Give each item tokens of its own")

    @property
    def depth(self) -> int:
        """Most tokens of an item, L."""
        return len(self.sizes)

    @cached_property
    def lengths(self) -> Ints:
        """Number of tokens of each item, [I]."""
        return np.count_nonzero(self.codes >= 0, axis=1).astype(np.int64)

    @property
    def n_tokens(self) -> int:
        """Number of different tokens of all levels together."""
        return max(self.sizes) if self.shared else sum(self.sizes)

    @cached_property
    def tokens(self) -> NDArray[np.int32]:
        """The codes with the tokens of all levels numbered as one vocabulary 0..n_tokens-1, [I, L]; -1 as in codes."""
        if self.shared:
            return self.codes
        firsts = np.cumsum([0, *self.sizes[:-1]], dtype=np.int32)
        return np.where(self.codes >= 0, self.codes + firsts, np.int32(-1))

    @cached_property
    def utilisation(self) -> tuple[float, ...]:
        """Share of each level's tokens that an item has."""
        used = (np.unique(column[column >= 0]) for column in self.codes.T)
        return tuple(len(found) / size for found, size in zip(used, self.sizes, strict=True))

    @cached_property
    def unique_codes(self) -> float:
        """Share of items whose tokens, without the collision token, are no other item's."""
        codes = self.codes[:, :-1] if self.collision_token else self.codes
        return float(np.mean(_multiplicities(codes)[1] == 1))

    @cached_property
    def largest_share(self) -> float:
        """Share of the items that have the first level's most frequent token."""
        return float(np.bincount(self.codes[:, 0]).max() / len(self.codes))

    def facts(self) -> dict[str, Any]:
        """What a run logs of its ids."""
        return {
            "origin": self.origin,
            "depth": self.depth,
            "tokens": self.n_tokens,
            "utilisation": [round(share, 4) for share in self.utilisation],
            "unique_codes": round(self.unique_codes, 4),
            "largest_share": round(self.largest_share, 4),
            "leaks": self.leaks,
        }

    def save(self, folder: Path) -> None:
        """Write it into a folder, in formats that hold no code."""
        np.save(folder / _CODES, self.codes, allow_pickle=False)
        facts = {"sizes": self.sizes, "origin": self.origin, "shared": self.shared}
        facts |= {"collision_token": self.collision_token, "leaks": self.leaks}
        (folder / _FACTS).write_text(json.dumps(facts) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "IdMap":
        """Read what ``save`` wrote."""
        facts = json.loads((folder / _FACTS).read_text())
        facts["sizes"] = tuple(facts["sizes"])
        return cls(np.load(folder / _CODES, allow_pickle=False), **facts)


def _multiplicities(codes: NDArray[np.int32]) -> tuple[Ints, Ints]:
    """For each item: how many before it have its tokens, and how many items have them at all, [I] each."""
    _, group, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    group = group.ravel()
    order = np.argsort(group, kind="stable")
    firsts = np.cumsum(counts) - counts
    before = np.empty(len(codes), dtype=np.int64)
    before[order] = np.arange(len(codes)) - firsts[group[order]]
    return before, counts[group]


def told_apart(ids: NDArray[np.int32], sizes: tuple[int, ...], origin: str) -> IdMap:
    """An IdMap of codes [I, L], with one token more for every item where two items have the same codes.

    That token numbers the items of the same codes in the order of the catalogue. Source: RecBoard's TIGER.
    """
    before, counts = _multiplicities(ids)
    if counts.max(initial=1) == 1:
        return IdMap(ids, sizes, origin)
    codes = np.concatenate([ids, before[:, None].astype(np.int32)], axis=1)
    return IdMap(codes, (*sizes, int(counts.max())), origin, collision_token=True)


@dataclass(frozen=True)
class ItemIds(Artifact):
    """Item ids, made before a run; a subclass says of what."""

    def make(self, data: Sequences, needs: Mapping[str, Any], folder: Path) -> None:
        self.map(data, needs, np.random.default_rng(int(torch.randint(2**62, ())))).save(folder)

    def load(self, folder: Path) -> IdMap:
        return IdMap.load(folder)

    @abstractmethod
    def map(self, data: Sequences, needs: Mapping[str, Any], rng: np.random.Generator) -> IdMap:
        """The ids of the data's items; only training interactions are read, unless the map says that it leaks."""

    def check(self, data: Sequences) -> None:
        """Raise UserError where the data lack what the ids are made of."""


def _digits(numbers: Ints, base: int) -> tuple[NDArray[np.int32], tuple[int, ...]]:
    """Numbers [I] below I as digits, the highest first, as many for each; and the digits' sizes."""
    depth = 1
    while base**depth < len(numbers):
        depth += 1
    powers = base ** np.arange(depth - 1, -1, -1, dtype=np.int64)
    return (numbers[:, None] // powers % base).astype(np.int32), (base,) * depth


_Base = Annotated[int, Field(ge=2, le=1 << 16)]


@dataclass(frozen=True)
class RandomNumbers(ItemIds):
    """Item numbers in random order, as digits.

    Parameters
    ----------
    base
        Number of different digits.
    """

    base: _Base = 10

    def map(self, data: Sequences, needs: Mapping[str, Any], rng: np.random.Generator) -> IdMap:
        codes, sizes = _digits(rng.permutation(data.n_items), self.base)
        return IdMap(codes, sizes, f"random numbers, base {self.base}", shared=True)


@dataclass(frozen=True)
class SequentialNumbers(ItemIds):
    """Item numbers in order of first appearance, user after user, as digits.

    Neighbours in a history have neighbouring numbers, which share digits: with ``all`` events, those of the targets do
    too, and the ids tell what is to be predicted.

    Parameters
    ----------
    base
        Number of different digits.
    events
        ``all``: of all events, validation and test targets among them (as P5 and POD were published). ``train``: of
        training events alone; the other items follow in random order.
    """

    base: _Base = 10
    events: Literal["all", "train"] = "all"

    def map(self, data: Sequences, needs: Mapping[str, Any], rng: np.random.Generator) -> IdMap:
        leaks = self.events == "all"
        items = np.asarray(data.items)
        if not leaks:
            items = items[ragged_index(np.asarray(data.offsets)[:-1], np.asarray(data.train_end))]
        found, places = np.unique(items, return_index=True)
        others = rng.permutation(np.setdiff1d(np.arange(data.n_items), found))
        numbers = np.empty(data.n_items, dtype=np.int64)
        numbers[np.concatenate([found[np.argsort(places)], others])] = np.arange(data.n_items)
        codes, sizes = _digits(numbers, self.base)
        of = "all events, held-out ones among them" if leaks else "training events"
        return IdMap(codes, sizes, f"order of first appearance in {of}, base {self.base}", shared=True, leaks=leaks)


@dataclass(frozen=True)
class OwnTokens(ItemIds):
    """One token for each item (independent indexing)."""

    def map(self, data: Sequences, needs: Mapping[str, Any], rng: np.random.Generator) -> IdMap:
        codes = np.arange(data.n_items, dtype=np.int32)[:, None]
        return IdMap(codes, (data.n_items,), "one token for each item")


@dataclass(frozen=True)
class IdFile(ItemIds):
    """Item ids of a file: a line for each item, its id, a tab, and its tokens with spaces between them.

    Parameters
    ----------
    path
        The file, UTF-8 text. Tokens are any words; equal words of one level are one token.
    ragged
        Whether items may have different numbers of tokens.
    """

    path: str
    ragged: bool = False

    def check(self, data: Sequences) -> None:
        self._read(data)

    def map(self, data: Sequences, needs: Mapping[str, Any], rng: np.random.Generator) -> IdMap:
        return self._read(data)

    def _read(self, data: Sequences) -> IdMap:
        path = Path(self.path).expanduser()
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            what = (
                "there is no such file" if isinstance(error, FileNotFoundError) else "it cannot be read as UTF-8 text"
            )
            raise UserError(what, where=path, remedy="Set item_ids.path to a file of item ids") from error
        rows: dict[str, list[str]] = {}
        for number, line in enumerate(lines, 1):
            item, tab, words = line.partition("\t")
            if not line.strip():
                continue
            tokens = words.split()
            if not tab or not tokens:
                self._refuse(path, number, "it is not an item id, a tab and tokens", "Write item<TAB>token token ...")
            if item in rows:
                self._refuse(path, number, f"item {item!r} appears twice", "Give each item one line")
            depth = len(next(iter(rows.values()), tokens))
            if len(tokens) != depth and not self.ragged:
                what = f"item {item!r} has {len(tokens)} tokens, but the first item has {depth}"
                self._refuse(path, number, what, "Give every item as many tokens, or set item_ids.ragged=true")
            rows[item] = tokens
        absent = [item for item in data.item_ids.tolist() if item not in rows]
        if absent:
            what = f"it lacks {len(absent):,} of the {data.n_items:,} items of {data.name}, such as {absent[0]!r}"
            raise UserError(what, where=path, remedy="Add a line for each missing item")
        every = [rows[item] for item in data.item_ids.tolist()]
        codes = np.full((len(every), max(map(len, every))), -1, dtype=np.int32)
        sizes = []
        for level in range(codes.shape[1]):
            having = [item for item, tokens in enumerate(every) if len(tokens) > level]
            found, numbers = np.unique([every[item][level] for item in having], return_inverse=True)
            codes[having, level] = numbers
            sizes.append(len(found))
        return IdMap(codes, tuple(sizes), f"the file {path.name}")

    def _refuse(self, path: Path, line: int, what: str, remedy: str) -> None:
        raise UserError(what, where=f"{path}, line {line}", remedy=remedy)
