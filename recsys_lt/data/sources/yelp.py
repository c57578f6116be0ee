"""The Yelp academic dataset, which each user must ask Yelp for."""

from dataclasses import dataclass

from recsys_lt.data.formats.material import Material
from recsys_lt.data.formats.yelp import BUSINESSES, REVIEWS, YelpReviews
from recsys_lt.data.sources.published import find_or_fetch
from recsys_lt.data.sources.source import Request


@dataclass(frozen=True)
class Yelp:
    """Reviews of a period.

    Parameters
    ----------
    first, last
        From when to when, both included, as "YYYY-MM-DD hh:mm:ss".
    """

    first: str
    last: str

    def locate(self, request: Request) -> Material:
        by_hand = (
            "Yelp asks for an agreement: download the Yelp Open Dataset from https://business.yelp.com/data/resources/open-dataset/,"
            f" put {REVIEWS} and {BUSINESSES} into one folder"
        )
        return find_or_fetch(request, [YelpReviews(self.first, self.last)], [], by_hand)
