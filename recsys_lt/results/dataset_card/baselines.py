"""What counting reaches on a dataset: popularity and the item graph, from the last event or from the whole history."""

from __future__ import annotations

from dataclasses import replace

import scipy.sparse as sp
import torch
from torch import Tensor

from recsys_lt.data.arrays import Ints
from recsys_lt.data.batch import Batch
from recsys_lt.data.sequences import Sequences
from recsys_lt.graphs.making import Maker, target_ranks
from recsys_lt.graphs.scores import Graph, GraphSettings
from recsys_lt.metrics.ranking import gains
from recsys_lt.results.dataset_card.measures import Numbers

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
    popularity = torch.from_numpy(data.popularity)

    def scores(batch: Batch) -> Tensor:
        return popularity.float().expand(len(batch), -1) if graph is None else graph.scores(batch, popularity)

    ranks = target_ranks(scores, data, users, "test", events, mask_seen)
    return {f"{metric}@10": float(gains(metric, ranks, 10).mean()) for metric in ("ndcg", "hr")}
