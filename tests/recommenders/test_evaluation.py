"""Evaluations of models whose lists end: one mark for a target that is not listed, and no metric beyond the list."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from recsys_lt.data.loader import RankBatches, users_with_target
from recsys_lt.data.preparation import Preparation
from recsys_lt.data.sources.synthetic import Synthetic
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.errors import UserError
from recsys_lt.losses.blocks import plain_means
from recsys_lt.metrics.groups import ItemGroups
from recsys_lt.metrics.ranking import UNLISTED
from recsys_lt.optim.rule import Plain
from recsys_lt.recommenders.full_ranking import Ranking
from recsys_lt.recommenders.recommender import Recommender, Terms
from recsys_lt.training.settings import MetricsSettings
from recsys_lt.training.write_results import measure

N_ITEMS, BEAM = 30, 12
DATA = Preparation(k_core=1)(Synthetic(n_users=40, n_items=N_ITEMS, mean_length=6).draw(), "made")[0]
GROUPS = ItemGroups(DATA.popularity)


class Beam(Recommender):
    """An objective of its own, and lists of the items after the last one of the history."""

    def __init__(self) -> None:
        super().__init__(N_ITEMS, Prefixes(3), 3)
        self.logits = nn.Parameter(torch.zeros(N_ITEMS))

    def batch_losses(self, batch, item_weights=None):
        losses = -self.logits.log_softmax(0)[batch.targets]
        return *plain_means(losses, self.target_weights(batch, item_weights)), batch.targets

    def rank(self, batch, k):
        items = (batch.items[batch.offsets[1:] - 1].unsqueeze(1) + torch.arange(1, BEAM + 1)) % N_ITEMS
        hit = items == batch.targets.unsqueeze(1)
        ranks = torch.where(hit.any(1), hit.int().argmax(1) + 1, UNLISTED)
        items = nn.functional.pad(items, (0, max(0, k - BEAM)), value=-1)[:, :k]
        return Ranking(ranks, items, -torch.arange(k).expand(items.shape).float(), BEAM)


def evaluated(ks=()):
    module = Beam()
    module.prepare_training(Plain(torch.optim.Adam, 0.1), Terms(ks=(1, 10, 20)))
    batches = RankBatches(DATA, users_with_target(DATA, "test"), "test", 3, 16, with_seen=True)
    (module.on_test_epoch_start if ks else module.on_validation_epoch_start)()
    for step in range(len(batches)):
        (module.test_step if ks else module.validation_step)(batches[step], step)
    module.on_validation_epoch_end()
    return module.evaluation


def test_beyond_the_list_nothing_is_measured() -> None:
    found = evaluated(ks=(1, 10, 20))
    measured = MetricsSettings(ks=[1, 10, 20])
    values = measure(DATA, measured, GROUPS, found)
    assert (found.ranks == UNLISTED).any()
    assert (found.ranks >= 1).any()
    assert values["hr@10"] == pytest.approx(float(((found.ranks >= 1) & (found.ranks <= 10)).mean()))
    for name in ("hr@20", "ndcg@20", "head/mrr@20", "coverage@20", "gini@20"):
        assert values[name] is None
    assert values["coverage@10"] is not None
    assert measure(DATA, measured, GROUPS, replace(found, depth=None))["hr@20"] is not None


def test_validation_without_lists_finds_the_same_ranks() -> None:
    found = evaluated()
    assert not found.exposure
    assert np.array_equal(found.ranks, evaluated(ks=(1,)).ranks)


def test_lists_too_short_to_select_by_are_refused() -> None:
    with pytest.raises(UserError, match=r"model: it lists 5 items, and the best epoch is selected by NDCG@10"):
        measure(DATA, MetricsSettings(ks=[10]), GROUPS, replace(evaluated(), depth=5))


def test_a_part_has_a_depth_of_its_own() -> None:
    found = evaluated()
    values = measure(DATA, MetricsSettings(ks=[10, 20]), GROUPS, replace(found, depth=None, parts={"retriever": found}))
    assert values["retriever/hr@10"] == values["hr@10"]
    assert values["retriever/hr@20"] is None
    assert values["hr@20"] is not None


def test_a_ranking_of_another_shape_is_refused_in_one_line() -> None:
    ranking = Ranking(torch.ones(3, dtype=torch.int64), torch.zeros(3, 4), torch.zeros(3, 5))
    with pytest.raises(UserError, match=r"model: Beam\.rank gave scores of shape \[3, 5\], not \[3, 4\]"):
        ranking.check(3, 3, 4, "Beam")
