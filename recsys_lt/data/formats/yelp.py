"""The Yelp academic dataset: JSON lines of reviews and of businesses."""

from dataclasses import dataclass, replace
from pathlib import Path

from recsys_lt.data.formats.columns import interactions_of
from recsys_lt.data.formats.json_lines import read_fields
from recsys_lt.data.formats.material import Material
from recsys_lt.data.interactions import Interactions, titles_of

REVIEWS = "yelp_academic_dataset_review.json"
BUSINESSES = "yelp_academic_dataset_business.json"


@dataclass(frozen=True)
class YelpReviews:
    """``yelp_academic_dataset_review.json`` and, for names, ``yelp_academic_dataset_business.json``.

    Parameters
    ----------
    first, last
        Reviews from ``first`` to ``last`` are kept, both included, as "YYYY-MM-DD hh:mm:ss".
    """

    first: str
    last: str

    @property
    def wanted(self) -> str:
        return f"{REVIEWS} (and {BUSINESSES} for titles)"

    def find(self, folder: Path) -> Material | None:
        reviews, businesses = folder / REVIEWS, folder / BUSINESSES
        if not reviews.is_file():
            return None
        titles = businesses if businesses.is_file() else None
        return Material(
            "Yelp reviews",
            (reviews,) if titles is None else (reviews, titles),
            lambda: self.read(reviews, titles),
            {"first": self.first, "last": self.last},
        )

    def read(self, reviews: Path, businesses: Path | None) -> Interactions:
        """Reviews of the period as events, with the businesses' names where there are any."""
        import pyarrow.compute as pc

        table = read_fields(reviews, {"user_id": "string", "business_id": "string", "date": "string"})
        date = table.column("date")  # fixed-width text, so the order of the text is the order of time
        table = table.filter(pc.and_(pc.greater_equal(date, self.first), pc.less_equal(date, self.last)))
        events = interactions_of(
            table.column("user_id"),
            table.column("business_id"),
            table.column("date"),
            path=reviews,
            place=lambda row: f"review {row + 1} of the period",
        )
        if businesses is None:
            return events
        names = read_fields(businesses, {"business_id": "string", "name": "string"}).to_pydict()
        titles = {key: name or "" for key, name in zip(names["business_id"], names["name"], strict=True)}
        return replace(events, item_titles=titles_of(events.item_ids, titles))
