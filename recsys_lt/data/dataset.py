"""A dataset by name: what ``conf/dataset/*.yaml`` describes, and the one call that loads it."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from recsys_lt.data.cache import FORMAT, CachedItemData, PreparedCache, content_hash
from recsys_lt.data.formats.items import TABLES, ids_beside, own_columns, with_catalogue
from recsys_lt.data.interactions import Material
from recsys_lt.data.preparation import Preparation
from recsys_lt.data.sequences import Sequences
from recsys_lt.data.sources.source import Request, Source
from recsys_lt.errors import UserError
from recsys_lt.system.machine import MachineError, check_name, refusal

Announce = Callable[[str], None]


class Dataset:
    """A source, how its interactions are prepared, and what must come out.

    Parameters
    ----------
    source
        Where the files come from.
    name
        Name in results, and of its folder of fetched files; None for the stem of ``path``.
    noun
        What its items are (movie, product, place), for the prompts of language models.
    path
        The user's own file (``dataset=file`` only).
    items
        The user's own files of items, one or a list: tables with a column of item ids, and arrays of vectors
        (``formats.items.own_columns``).
    all_items
        Whether items of ``items`` without an event join the catalogue, for models that rank by content.
    columns
        Headers of the user's own files by the names this program has for their columns: user, item, time and split
        of events, and any others of items.
    raw_dir
        A folder with files the user already has; None for ``$RECSYS_LT_RAW/<name>`` where that exists,
        else for what can be fetched.
    cache_dir
        Where fetched files and prepared datasets are kept.
    k_core
        Fewest events of a user and of an item; 1 or None keeps all.
    split
        leave_one_out, temporal, as_given or cold_items.
    temporal_cuts
        The two quantiles of all times at which ``temporal`` cuts.
    cold_share
        Share of the items that ``cold_items`` holds out.
    duplicates
        What to do with an event that is there twice: keep, drop or error.
    expect
        The published numbers of users, items and interactions; None where there are none.
    """

    def __init__(
        self,
        source: Source,
        name: str | None = None,
        noun: str = "item",
        path: str | None = None,
        items: str | Sequence[str] | None = None,
        all_items: bool = False,
        columns: Mapping[str, str] | None = None,
        raw_dir: str | None = None,
        cache_dir: str = "~/.cache/recsys_lt",
        k_core: int | None = 5,
        split: str = "leave_one_out",
        temporal_cuts: Sequence[float] = (0.8, 0.9),
        cold_share: float = 0.1,
        duplicates: str = "keep",
        expect: Mapping[str, int] | None = None,
    ) -> None:
        if not hasattr(source, "locate"):
            raise UserError(f"it is {source!r}", where="dataset.source", remedy="Give a node of a source's class")
        self._source, self.noun = source, noun
        self._path = None if path is None else Path(path).expanduser()
        self._items = [Path(each).expanduser() for each in ([items] if isinstance(items, str) else items or [])]
        self._columns = dict(columns or {})
        self._raw_dir = None if raw_dir is None else Path(raw_dir).expanduser()
        if not cache_dir.strip():
            raise UserError("it is empty", where="dataset.cache_dir", remedy="Name a folder, or unset RECSYS_LT_CACHE")
        self._cache_dir = Path(cache_dir).expanduser()
        core = 1 if k_core is None else k_core
        self._preparation = Preparation(core, split, tuple(temporal_cuts), cold_share, duplicates)
        self._all_items = all_items
        if all_items and (core > 1 or not self._items):
            what = f"an item without an event is in no {core}-core" if core > 1 else "there is no file of items"
            remedy = "Set dataset.k_core=1" if core > 1 else "Name one in dataset.items"
            raise UserError(what, where="dataset.all_items", remedy=remedy)
        self._expect = dict(expect or {})
        stem = "" if self._path is None else self._path.stem
        self.name = (stem if stem.strip(".") else "file") if name is None else name
        check_name(self.name, "dataset.name")

    def load(self, announce: Announce = print) -> Sequences:
        """Find, fetch, prepare or remember the dataset; ``announce`` takes short lines on what came of it.

        The arrays are mapped from the cache, a column of items when it is first read. The fingerprint is the hash of
        the source's content and of the preparation. Raises UserError where the source cannot be had or read, the
        preparation leaves nothing, or the counts are not the published ones.
        """
        try:
            self._cache_dir.mkdir(parents=True, exist_ok=True)
            downloads = self._cache_dir / "downloads"
            material = self._material(downloads, announce)
            cache = PreparedCache(self._cache_dir / "prepared", self.name, self._key(material), announce)
            sequences, notes = cache.get(lambda: self._prepared(material))
            sequences = replace(sequences, item_data=CachedItemData(cache, material.item_data, sequences.item_ids))
            sequences.titles  # noqa: B018  (prepared here: a bad table is refused before anything is trained)
        except (OSError, MachineError) as error:
            refused = refusal(error, self._cache_dir)
            assert refused is not None
            if not Path(str(refused.where)).is_relative_to(self._cache_dir):
                raise refused from error
            remedy = f"{refused.remedy}, or set dataset.cache_dir to another folder"
            raise MachineError(refused.what, where=refused.where, remedy=remedy) from error
        for note in notes:
            announce(f"{self.name}: {note}")
        core = f"{self._preparation.k_core}-core" if self._preparation.k_core > 1 else "no k-core"
        got = {"users": sequences.n_users, "items": sequences.n_items, "interactions": len(sequences.items)}
        counts = ", ".join(f"{count:,} {key}" for key, count in got.items())
        announce(f"{self.name}: {counts} ({core}, {sequences.split})")
        self._check_counts(got)
        return sequences

    def _prepared(self, material: Material) -> tuple[Sequences, list[str]]:
        with Console(stderr=True).status(Text(f"preparing {self.name}")):
            return self._preparation(material.read(), self.name)

    def _material(self, downloads: Path, announce: Announce) -> Material:
        given_split = self._preparation.split == "as_given"
        request = Request(self.name, self._path, self._raw_dir, downloads, announce, self._columns, given_split)
        material = self._source.locate(request)
        own = own_columns(self._items, self._columns)
        if not self._items and self._path is not None:
            for path in (self._path.with_name(f"items{ending}") for ending in TABLES):
                if path.is_file() and path not in material.files:
                    announce(f"{self.name}: {path} is not used. To use it add dataset.items={path}")
        arrays = (ids_beside(path) for path in self._items if path.suffix.lower() == ".npy")
        read = (lambda: with_catalogue(material.read(), own)) if self._all_items else material.read
        return replace(
            material,
            read=read,
            files=(*material.files, *self._items, *arrays),
            settings={**material.settings, **{f"columns.{name}": header for name, header in self._columns.items()}},
            item_data={**material.item_data, **own},
        )

    def _key(self, material: Material) -> str:
        preparation = asdict(self._preparation)
        if self._preparation.split != "cold_items":
            del preparation["cold_share"]  # a setting of no effect leaves the fingerprint as it was
        made_of = {
            "format": FORMAT,
            "kind": material.kind,
            "settings": dict(material.settings),
            "files": [content_hash(path, self._cache_dir / "hashes") for path in material.files],
            "preparation": preparation | ({"all_items": True} if self._all_items else {}),
        }
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]

    def _check_counts(self, got: Mapping[str, int]) -> None:
        unknown = [key for key in self._expect if key not in got]
        if unknown:
            raise UserError(f"no count is called {unknown[0]}", where="dataset.expect", remedy=f"Use {', '.join(got)}")
        wrong = [f"{got[key]:,} {key} instead of {count:,}" for key, count in self._expect.items() if got[key] != count]
        if wrong:
            remedy = "Check the raw files, or set dataset.expect=null if this is on purpose"
            raise UserError(f"not the published dataset: {', '.join(wrong)}", where=self.name, remedy=remedy)
