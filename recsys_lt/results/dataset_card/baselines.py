"""What counting reaches on a dataset: popularity and the item graph, from the last event or from the whole history."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch

from recsys_lt.data.arrays import Ints
from recsys_lt.data.loader import RankBatches, rank_loader
from recsys_lt.data.sequences import Sequences
from recsys_lt.graphs.making import Maker
from recsys_lt.graphs.scores import Graph, GraphSettings
from recsys_lt.metrics.ranking import gains
from recsys_lt.recommenders.full_ranking import ScoreMatrix, rank_by_scores
from recsys_lt.results.dataset_card.measures import Numbers

_USERS, _SCORES = 512, 1 << 24  # users ranked at a time, and scores held at a time
_EVENTS = 50  # latest events of a history that count
_IDS_ALONE = replace(GraphSettings(), similar=0.0, from_similar=0.0, to_similar=0.0)


def baselines(data: Sequences, users: Ints, texts: sp.csr_array | None, mask_seen: str) -> list[Numbers]:
    """Test NDCG@10 and HR@10 of counting, for some users [n].

    ``scorer`` is popularity or the item graph, with the settings of ``model=itemgraph``; ``events`` is how many of the
    latest events it reads, None where it reads none; ``text`` says whether it uses the items' texts [I, terms].
    ``mask_seen`` is as ``metrics.mask_seen``.
    """
    make = Maker(data, texts)
    rows: list[Numbers] = [{"scorer": "popularity", "events": None, "text": False, **_accuracy(data, users, mask_seen)}]
    settings = [_IDS_ALONE] + ([] if texts is None else [GraphSettings()])
    for each in settings:
        graph = make(each)
        for events in (1, _EVENTS):
            row = {"scorer": "item graph", "events": events, "text": each.reads_texts}
            rows.append(row | _accuracy(data, users, mask_seen, graph, events))
    return rows


def _accuracy(data: Sequences, users: Ints, mask_seen: str, graph: Graph | None = None, events: int = 1) -> Numbers:
    popularity, ranks = torch.from_numpy(data.popularity), []
    rows = max(1, min(_USERS, _SCORES // data.n_items))
    batches = RankBatches(data, users, "test", events, rows, with_seen=mask_seen != "none")
    for batch in rank_loader(batches):
        seen = batch.seen
        if seen is not None and mask_seen == "keep_target":
            seen = seen.without(batch.targets)
        scores = popularity.float().expand(len(batch), -1) if graph is None else graph.scores(batch, popularity)
        found = rank_by_scores(scores, ScoreMatrix(data.n_items), batch.targets, seen, 0)
        ranks.append(found.target_rank.numpy())
    joined = np.concatenate(ranks)
    return {f"{metric}@10": float(gains(metric, joined, 10).mean()) for metric in ("ndcg", "hr")}
