"""The Yelp academic dataset, which each user must ask Yelp for: JSON lines of reviews and of businesses."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from recsys_lt.data.formats.events import interactions_of
from recsys_lt.data.formats.items import table_columns
from recsys_lt.data.formats.tables import JsonLines
from recsys_lt.data.interactions import EventsAndItems, Interactions, Material
from recsys_lt.data.sources.published import find_or_fetch
from recsys_lt.data.sources.source import Request

_REVIEWS = "yelp_academic_dataset_review.json"
_BUSINESSES = "yelp_academic_dataset_business.json"
_REVIEW = JsonLines({"user_id": "string", "business_id": "string", "date": "string"})
_BUSINESS = JsonLines({"business_id": "string", "name": "string", "categories": "string"})


@dataclass(frozen=True)
class Yelp:
    """Reviews of a period, from first to last, both included, as "YYYY-MM-DD hh:mm:ss"."""

    first: str
    last: str

    def locate(self, request: Request) -> Material:
        by_hand = (
            "Yelp asks for an agreement: download the Yelp Open Dataset from https://business.yelp.com/data/resources/open-dataset/,"
            f" put {_REVIEWS} and {_BUSINESSES} into one folder"
        )
        return find_or_fetch(request, [self.layout], [], by_hand)

    @property
    def layout(self) -> EventsAndItems:
        """How its files lie in a folder."""
        period = {"first": self.first, "last": self.last}
        columns = partial(table_columns, _BUSINESS, key="business_id")
        return EventsAndItems("Yelp reviews", _REVIEWS, _BUSINESSES, self._read, columns, period)

    def _read(self, reviews: Path) -> Interactions:
        """Reviews of the period as events."""
        import pyarrow.compute as pc

        table = _REVIEW.read(reviews, list(_REVIEW.fields))
        date = table.column("date")  # fixed-width text, so the order of the text is the order of time
        table = table.filter(pc.and_(pc.greater_equal(date, self.first), pc.less_equal(date, self.last)))
        columns = dict(zip(("user", "item", "time"), table.columns, strict=True))
        return interactions_of(columns, reviews, lambda _path, row: f"review {row + 1} of the period")
