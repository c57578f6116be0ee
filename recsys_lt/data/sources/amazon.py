"""Amazon reviews of 2014, 5-core files by category (McAuley et al., hosted by SNAP)."""

import ast
import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from recsys_lt.data.formats.events import read_events
from recsys_lt.data.formats.items import object_array
from recsys_lt.data.formats.tables import JsonLines
from recsys_lt.data.interactions import EventsAndItems, Material
from recsys_lt.data.item_data import ATTRIBUTES, TITLE, RawColumn
from recsys_lt.data.sources.download import Download, Remote
from recsys_lt.data.sources.published import find_or_fetch
from recsys_lt.data.sources.source import Request
from recsys_lt.errors import UserError
from recsys_lt.system.machine import check_name

_HOST = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
_REVIEWS = JsonLines({"reviewerID": "string", "asin": "string", "unixReviewTime": "int64"})
_COLUMNS = {"user": "reviewerID", "item": "asin", "time": "unixReviewTime"}
_ASIN = re.compile(r"'asin': '([^']+)'")


@dataclass(frozen=True)
class Amazon:
    """One category, as the files spell it: Beauty, Toys_and_Games, Sports_and_Outdoors."""

    category: str

    def __post_init__(self) -> None:
        check_name(self.category, "dataset.source.category")

    def locate(self, request: Request) -> Material:
        # SNAP publishes no hashes; the counts that each dataset's YAML expects are the check.
        names = (self.layout.events, self.layout.items)
        files = tuple(Remote(f"{_HOST}/{name}") for name in names)
        by_hand = f"Download {names[0]} and {names[1]} from {_HOST}/"
        return find_or_fetch(request, [self.layout], [Download(files)], by_hand)

    @property
    def layout(self) -> EventsAndItems:
        """How its files lie in a folder."""
        return EventsAndItems(
            "Amazon reviews 2014",
            f"reviews_{self.category}_5.json.gz",
            f"meta_{self.category}.json.gz",
            lambda path: read_events(_REVIEWS, path, _COLUMNS),
            lambda path: {TITLE: partial(_column, path, _title), ATTRIBUTES: partial(_column, path, _categories)},
        )


def _title(product: dict[str, Any]) -> str:
    return "".join(product.get("title", ""))  # a number in its place is an error


def _categories(product: dict[str, Any]) -> str:
    return ", ".join(dict.fromkeys(name for path in product.get("categories", []) for name in path[1:]))


def _column(meta: Path, value: Callable[[dict[str, Any]], str], wanted: NDArray[Any]) -> RawColumn:
    """One text of each wanted product's record, which is a Python literal and not JSON."""
    found = dict(_texts(meta, set(wanted.tolist()), value))
    return RawColumn(object_array(found), object_array(found.values()), meta)


def _texts(meta: Path, wanted: set[str], value: Callable[[dict[str, Any]], str]) -> Iterator[tuple[str, str]]:
    open_text = gzip.open if meta.suffix == ".gz" else open
    try:
        with open_text(meta, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                # Parsing a literal is slow, and most of a category's products have no review here.
                spotted = _ASIN.search(line)
                if spotted is not None and spotted.group(1) not in wanted:
                    continue
                try:
                    product = ast.literal_eval(line)
                    yield product["asin"], value(product)
                except (ValueError, SyntaxError, KeyError, AttributeError, TypeError) as error:
                    raise UserError("the line is not a product's record", where=f"{meta}, line {number}") from error
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"it cannot be read ({error})", where=meta, remedy="Fetch the file again") from error
