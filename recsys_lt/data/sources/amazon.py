"""Amazon reviews of 2014, 5-core files by category (McAuley et al., hosted by SNAP)."""

from dataclasses import dataclass

from recsys_lt.data.formats.amazon import AmazonReviews
from recsys_lt.data.formats.material import Material
from recsys_lt.data.sources.download import Download, Remote
from recsys_lt.data.sources.published import find_or_fetch
from recsys_lt.data.sources.source import Request
from recsys_lt.system.names import check_name

_HOST = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"


@dataclass(frozen=True)
class Amazon:
    """One category.

    Parameters
    ----------
    category
        As the files spell it: Beauty, Toys_and_Games, Sports_and_Outdoors.
    """

    category: str

    def __post_init__(self) -> None:
        check_name(self.category, "dataset.source.category")

    def locate(self, request: Request) -> Material:
        # SNAP publishes no hashes; the counts that each dataset's YAML expects are the check.
        names = (f"reviews_{self.category}_5.json.gz", f"meta_{self.category}.json.gz")
        files = tuple(Remote(f"{_HOST}/{name}") for name in names)
        by_hand = f"Download {names[0]} and {names[1]} from {_HOST}/"
        return find_or_fetch(request, [AmazonReviews(self.category)], [Download(files)], by_hand)
