"""Amazon reviews of 2014: JSON lines of reviews, and metadata that are Python literals, not JSON."""

import ast
import gzip
import re
import zlib
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from recsys_lt.data.formats.columns import interactions_of
from recsys_lt.data.formats.json_lines import read_fields
from recsys_lt.data.formats.material import Material
from recsys_lt.data.interactions import Interactions, titles_of
from recsys_lt.errors import UserError

_ASIN = re.compile(r"'asin': '([^']+)'")


@dataclass(frozen=True)
class AmazonReviews:
    """``reviews_<category>_5.json.gz`` and, for titles, ``meta_<category>.json.gz``, packed or not.

    Parameters
    ----------
    category
        As the files spell it: Beauty, Toys_and_Games, Sports_and_Outdoors.
    """

    category: str

    @property
    def wanted(self) -> str:
        return f"reviews_{self.category}_5.json.gz (and meta_{self.category}.json.gz for titles)"

    def find(self, folder: Path) -> Material | None:
        reviews = _either(folder / f"reviews_{self.category}_5.json")
        if reviews is None:
            return None
        meta = _either(folder / f"meta_{self.category}.json")
        files = (reviews,) if meta is None else (reviews, meta)
        return Material("Amazon reviews 2014", files, lambda: read_amazon(reviews, meta))


def _either(plain: Path) -> Path | None:
    packed = plain.with_name(plain.name + ".gz")
    return next((path for path in (packed, plain) if path.is_file()), None)


def read_amazon(reviews: Path, meta: Path | None) -> Interactions:
    """Reviews as events, with titles where there are metadata.

    Raises
    ------
    UserError
        A file is cut short, or a line is not what it should be.
    """
    table = read_fields(reviews, {"reviewerID": "string", "asin": "string", "unixReviewTime": "int64"})
    events = interactions_of(
        table.column("reviewerID"),
        table.column("asin"),
        table.column("unixReviewTime"),
        path=reviews,
        place=lambda row: f"line {row + 1}",
    )
    if meta is None:
        return events
    titles = dict(_titles(meta, set(events.item_ids)))
    return replace(events, item_titles=titles_of(events.item_ids, titles))


def _titles(meta: Path, wanted: Container[str]) -> Iterator[tuple[str, str]]:
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
                    yield product["asin"], " ".join(product.get("title", "").split())
                except (ValueError, SyntaxError, KeyError, AttributeError, TypeError) as error:
                    raise UserError("the line is not a product's record", where=f"{meta}, line {number}") from error
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"it cannot be read ({error})", where=meta, remedy="Fetch the file again") from error
