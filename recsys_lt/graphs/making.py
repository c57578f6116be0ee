"""The making of an item graph from training data, and the choice of its numbers on validation users."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys_lt.data.arrays import Ints
from recsys_lt.data.batch import Batch
from recsys_lt.data.features import joined_texts, text_columns, tfidf
from recsys_lt.data.loader import RankBatches, rank_loader, users_with_target
from recsys_lt.data.needs import Artifact
from recsys_lt.data.neighbours import best, best_of_product, normalised, text_neighbours, transitions
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.graphs.scores import Graph, GraphSettings
from recsys_lt.metrics.choice import Quality, check_keep, chosen, is_nonhead
from recsys_lt.recommenders.full_ranking import ScoreMatrix, rank_by_scores

#: Values that the search tries, key by key: what a key becomes the later ones are tried with.
_TRIED: Mapping[str, Sequence[float]] = {
    "history": (0.4, 0.6, 0.8),
    "row": (0.4, 0.5, 0.6, 0.7),
    "column": (0.0, 0.1, 0.2, 0.3),
    "decay": (0.4, 0.6, 0.8),
    "distance": (5, 20, 50),
    "backward": (0.2, 0.5, 1.0),
}
_TRIED_OF_TEXTS: Mapping[str, Sequence[float]] = {
    "similar": (0.0, 0.1, 0.2, 0.4, 0.8),
    "from_similar": (0.0, 0.5, 1.0, 2.0),
    "to_similar": (0.0, 0.3, 1.0),
    "similar_history": (0.6, 0.8, 1.0),
}
#: Values that are tried besides where rare targets count: both powers decide how far popular items are lowered.
_TRIED_FOR_RARE: Mapping[str, Sequence[float]] = {"row": (0.4, 0.5, 0.6, 0.7), "column": (0.1, 0.2, 0.3, 0.4)}
_USERS, _SCORES = 512, 1 << 24  # users ranked at a time, and scores held at a time
_TRIALS, _SETTINGS = "trials.json", "settings.json"
_PARTS = ("data", "indices", "indptr")


@dataclass
class Maker:
    """Makes graphs of one dataset; what two settings have in common is made once.

    ``texts`` is [I, terms] as ``tfidf`` makes it, None for a graph of ids alone.
    """

    data: Sequences
    texts: sp.csr_array | None
    _made: dict[str, tuple[Any, sp.csr_array]] = field(default_factory=dict)

    def __call__(self, settings: GraphSettings) -> Graph:
        """Make the graph of these settings."""
        s, texts = settings, self.texts
        counts = (s.decay, s.distance, s.backward)
        following = (*counts, s.row, s.column, s.kept)
        after = self._once(
            "following",
            following,
            lambda: best(
                normalised(self._once("counts", counts, lambda: transitions(self.data, *counts)), s.row, s.column),
                s.kept,
            ),
        )
        if texts is None or not s.reads_texts:
            return Graph(s, after)
        similar = self._once("similar", s.neighbours, lambda: text_neighbours(texts, s.neighbours))
        shares, total, key = normalised(similar, 1, 0), after, (following, s.neighbours)
        if s.from_similar:
            total = total + s.from_similar * self._once("from", key, lambda: best_of_product(shares, after, s.kept))
        if s.to_similar:
            total = total + s.to_similar * self._once("to", key, lambda: best_of_product(after, shares, s.kept))
        return Graph(s, best(total, s.kept), similar)

    def _once(self, name: str, key: Any, make: Any) -> sp.csr_array:
        """What was made last under this name, if it was made with the same key."""
        if name not in self._made or self._made[name][0] != key:
            self._made[name] = key, make()
        return self._made[name][1]


def validated(graph: Graph, data: Sequences, n_users: int, max_length: int, mask_seen: str) -> Quality:
    """NDCG@10 of a graph over ``n_users`` validation users, drawn as ``users_with_target`` draws them."""
    users = users_with_target(data, "valid", n_users)
    if len(users) == 0:
        what = "no user has a validation target with an event before it"
        raise UserError(what, where=data.name, remedy="Set model.tune=false")
    popularity = torch.from_numpy(data.popularity)
    ranks = target_ranks(lambda batch: graph.scores(batch, popularity), data, users, "valid", max_length, mask_seen)
    return Quality.of(ranks, is_nonhead(data.targets(users, "valid"), data.popularity))


def target_ranks(
    scores: Callable[[Batch], Tensor], data: Sequences, users: Ints, stage: str, max_length: int, mask_seen: str
) -> Ints:
    """Rank of the targets at a stage (``valid`` or ``test``) of users [n], by the scores [B, I] of a batch: [n]."""
    rows = max(1, min(_USERS, _SCORES // data.n_items))
    batches = rank_loader(RankBatches(data, users, stage, max_length, rows, with_seen=mask_seen != "none"))
    scorer = ScoreMatrix(data.n_items)
    found = [rank_by_scores(scores(batch), scorer, batch.targets, batch.masked(mask_seen), 0) for batch in batches]
    return np.concatenate([ranking.target_rank.numpy() for ranking in found])


@dataclass(frozen=True)
class ItemMatrices(Artifact):
    """The item graph of a dataset's training events.

    Parameters
    ----------
    settings
        Its numbers, or where the search for better ones begins.
    columns
        Columns of item texts that are read; None: title and attributes, those of them that the dataset has.
    text
        Whether texts are used; None: where the dataset has them.
    tuned
        Validation users that the search ranks for in each trial; 0 for no search.
    max_length, mask_seen
        As the model ranks.
    keep
        See ``choice.chosen``.
    """

    settings: GraphSettings
    columns: tuple[str, ...] | None
    text: bool | None
    tuned: int
    max_length: int
    mask_seen: str
    keep: float = 1.0

    def __post_init__(self) -> None:
        check_keep(self.keep)

    def make(self, data: Sequences, needs: Mapping[str, Any], folder: Path) -> None:
        """See ``Artifact``. Raises UserError for a column that the dataset lacks, and for no text where one must be."""
        make = Maker(data, self._texts(data))
        settings = self.settings
        if self.tuned:
            trials = list(self._search(make))
            settings, _ = chosen(trials, self.keep)
            rows = [{**asdict(tried), **reached.row()} for tried, reached in trials]
            (folder / _TRIALS).write_text(json.dumps(rows, indent=1) + "\n")
        graph = make(settings)
        (folder / _SETTINGS).write_text(json.dumps(asdict(settings)) + "\n")
        for name, matrix in (("following", graph.following), ("similar", graph.similar)):
            for part in _PARTS if matrix is not None else ():
                np.save(folder / f"{name}.{part}.npy", getattr(matrix, part), allow_pickle=False)

    def load(self, folder: Path) -> Graph:
        settings = GraphSettings(**json.loads((folder / _SETTINGS).read_text()))
        following, similar = (_read(folder, name) for name in ("following", "similar"))
        assert following is not None
        return Graph(settings, following, similar)

    def _texts(self, data: Sequences) -> sp.csr_array | None:
        if self.text is False or not self.settings.reads_texts:
            return None
        columns = text_columns(data) if self.columns is None else self.columns
        if not columns and self.text:
            remedy = "Give titles in a file of dataset.items, or leave it null"
            raise UserError(f"no item of {data.name} has a text", where="model.text=true", remedy=remedy)
        return tfidf(joined_texts(data, columns, "model.columns")) if columns else None

    def _search(self, make: Maker) -> Iterator[tuple[GraphSettings, Quality]]:
        """Settings and their quality on validation users: one key after the other, each at the best of its values."""
        ids = replace(self.settings, similar=0.0, from_similar=0.0, to_similar=0.0)
        stages = [(ids, _TRIED, 1.0), (ids, _TRIED, 1.0)]  # the first keys again, at the best of the later ones
        if make.texts is not None:
            stages.append((self.settings, _TRIED_OF_TEXTS, 1.0))
        if self.keep < 1:  # from the best overall towards rare targets
            start, tried, _ = stages[-1]
            stages.append((start, {**_TRIED_FOR_RARE, **tried}, self.keep))
        found: dict[GraphSettings, Quality] = {}
        best: dict[str, float] = {}
        for start, tried, keep in stages:
            top = max((quality.overall for quality in found.values()), default=0.0)
            for key, values in tried.items():
                trials = []
                for value in dict.fromkeys((best.get(key, getattr(start, key)), *values)):
                    settings = replace(start, **{**best, key: value})
                    if settings not in found:
                        found[settings] = self._validated(make(settings), make.data)
                        yield settings, found[settings]
                    trials.append((value, found[settings]))
                best[key], _ = chosen(trials, keep, top)

    def _validated(self, graph: Graph, data: Sequences) -> Quality:
        return validated(graph, data, self.tuned, self.max_length, self.mask_seen)


def _read(folder: Path, name: str) -> sp.csr_array | None:
    if not (folder / f"{name}.{_PARTS[0]}.npy").is_file():
        return None
    parts = (np.load(folder / f"{name}.{part}.npy", allow_pickle=False) for part in _PARTS)
    values, indices, offsets = parts
    n = len(offsets) - 1
    return sp.csr_array((values, indices, offsets), shape=(n, n))
