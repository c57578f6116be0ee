"""Visits to a shop."""

import numpy as np

from recsys_lt.data.interactions import Interactions, Material
from recsys_lt.data.sources.source import Request


class Shop:
    """Made-up visitors who walk along the shelves.

    A source of your own would read its files here: name them in ``Material.files``, so that the prepared data are made
    anew when one of them changes.

    Parameters
    ----------
    visitors, articles
        How many.
    """

    def __init__(self, visitors: int, articles: int) -> None:
        self.visitors, self.articles = visitors, articles

    def locate(self, request: Request) -> Material:
        """What the interactions are made of, and how to read it."""
        request.refuse_path()
        return Material("shop", (), self._read, {"visitors": self.visitors, "articles": self.articles})

    def _read(self) -> Interactions:
        random = np.random.default_rng(0)
        users: list[int] = []
        items: list[int] = []
        times: list[int] = []
        for visitor in range(self.visitors):
            steps = random.integers(-1, 3, size=random.integers(5, 30)).cumsum()
            articles = (random.integers(self.articles) + steps) % self.articles
            users += [visitor] * len(articles)
            items += articles.tolist()
            times += range(len(articles))
        return Interactions(
            np.array(users, dtype=np.int32),
            np.array(items, dtype=np.int32),
            np.array([f"visitor {number}" for number in range(self.visitors)], dtype=np.object_),
            np.array([f"article {number}" for number in range(self.articles)], dtype=np.object_),
            times=np.array(times, dtype=np.int64),
        )
