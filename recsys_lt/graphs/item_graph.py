"""The item graph: items scored by how they follow a history's items in training, and by how alike their texts are."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.needs import Need
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.graphs.making import ItemMatrices
from recsys_lt.graphs.scores import Graph, GraphSettings
from recsys_lt.recommenders.full_ranking import ScoreMatrix


class ItemGraph(Backbone):
    """Histories times sparse matrices of counts and cosines; nothing is learned by gradient.

    The scores of a history are h M + a h' S^T + b h S1 M + c h M S1. M is the matrix of normalised transitions, S that
    of the cosines of each item's nearest texts, and S1 is S with rows that sum to 1; h and h' are rows of event weights
    that fall with age; a, b, c are the settings ``similar``, ``from_similar`` and ``to_similar``. An item without a
    score has a small one by its popularity. States are the scores themselves, [B, I].

    Parameters
    ----------
    facts, max_length
        See ``Backbone``; what is needed is the graph.
    graph
        The numbers of the graph.
    columns
        Columns of item texts that are read, one after the other; None: title and attributes, as far as they are there.
    text
        Whether texts are used; None: where the dataset has them.
    tune
        Whether the numbers are chosen on validation users first, key by key.
    tune_users
        How many validation users each trial ranks for.
    mask_seen
        ``metrics.mask_seen``, as the trials rank.
    keep
        Below 1, the numbers of highest nonhead NDCG@10 among those that keep this share of the highest NDCG@10.
    """

    trainable: ClassVar[bool] = False
    popularity: Tensor

    @classmethod
    def needs(cls, options: Mapping[str, Any], start_from: str | None) -> Mapping[str, Need]:
        """The graph, made from training events."""
        settings = {key: value for key, value in options["graph"].items() if key != "_target_"}
        columns = None if options["columns"] is None else tuple(options["columns"])
        tuned = options["tune_users"] if options["tune"] else 0
        shared = {key: options[key] for key in ("text", "max_length", "mask_seen", "keep")}
        return {"graph": ItemMatrices(GraphSettings(**settings), columns, tuned=tuned, **shared)}

    def __init__(
        self,
        facts: DataFacts,
        *,
        graph: GraphSettings,
        max_length: int,
        columns: Sequence[str] | None,
        text: bool | None,
        tune: bool,
        tune_users: int,
        mask_seen: str,
        keep: float,
    ) -> None:
        super().__init__(width=max_length)
        self.max_length, self._tuned = max_length, tune
        self.task = Prefixes(max_length)
        self.graph: Graph = facts.needs["graph"]
        self.register_buffer("popularity", facts.popularity.to(torch.float32))

    def facts(self) -> Mapping[str, Any]:
        return {"chosen": asdict(self.graph.settings)} if self._tuned else {}

    def user_states(self, batch: Batch) -> Tensor:
        return self.graph.scores(batch, self.popularity).to(self.popularity.device)

    def output_table(self) -> ScoreMatrix:
        return ScoreMatrix(len(self.popularity))
