"""GroupLens's own files: u.data (100K), ratings.dat (1M, 10M) and ratings.csv (20M and later)."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from recsys_lt.data.formats.delimited import Delimited
from recsys_lt.data.formats.material import Material
from recsys_lt.data.interactions import Interactions, titles_of
from recsys_lt.errors import UserError

_RATINGS = ("user", "item", "rating", "timestamp")


@dataclass(frozen=True)
class MovieLensRatings:
    """A file of ratings and the file of movies beside it.

    Parameters
    ----------
    ratings, movies
        Their names.
    written
        How the ratings are written.
    titles
        Movie ids and titles of the movies' file.
    """

    ratings: str
    movies: str
    written: Delimited
    titles: Callable[[Path], Iterator[tuple[str, str]]]

    @property
    def wanted(self) -> str:
        return f"{self.ratings} (and {self.movies} for titles)"

    def find(self, folder: Path) -> Material | None:
        ratings, movies = folder / self.ratings, folder / self.movies
        if not ratings.is_file():
            return None
        if not movies.is_file():
            return Material(f"MovieLens {self.ratings}", (ratings,), lambda: self.written.read(ratings))
        return Material(f"MovieLens {self.ratings}", (ratings, movies), lambda: self._read(ratings, movies))

    def _read(self, ratings: Path, movies: Path) -> Interactions:
        events = self.written.read(ratings)
        return replace(events, item_titles=titles_of(events.item_ids, dict(self.titles(movies))))


def _split_titles(path: Path, delimiter: str) -> Iterator[tuple[str, str]]:
    # GroupLens wrote its older files in Latin-1.
    for line in path.read_text(encoding="latin-1").splitlines():
        movie, title, *_ = [*line.split(delimiter), "", ""]
        yield movie, title.strip()


def _csv_titles(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                yield row["movieId"], row["title"]
    except (KeyError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(
            "it is no table with the columns movieId and title", where=path, remedy="Fetch the file again"
        ) from error


U_DATA = MovieLensRatings(
    "u.data",
    "u.item",
    Delimited("\t", quoted=False, names=_RATINGS),
    lambda path: _split_titles(path, "|"),
)
RATINGS_DAT = MovieLensRatings(
    "ratings.dat",
    "movies.dat",
    Delimited("::", quoted=False, names=_RATINGS),
    lambda path: _split_titles(path, "::"),
)
RATINGS_CSV = MovieLensRatings(
    "ratings.csv",
    "movies.csv",
    Delimited(user="userId", item="movieId", time_required=True),
    _csv_titles,
)
