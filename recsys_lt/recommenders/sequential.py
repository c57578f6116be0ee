"""The recommender that scores a backbone's states against an output table."""

import torch
from torch import Tensor

from recsys_lt.backbones.backbone import LARGE_TABLE, Backbone
from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.data.streams import key_of
from recsys_lt.losses.loss import Draw, Loss
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.optim.rule import UpdateRule
from recsys_lt.recommenders.counting import rank_by_scores
from recsys_lt.recommenders.recommender import Recommender, Terms

_NEGATIVES = key_of(4)  # sets the negatives' streams apart from dropout's


class SequentialRecommender(Recommender):
    """A backbone, a loss and an update rule.

    Parameters
    ----------
    backbone
        Histories to states.
    loss
        States to totals.
    rule
        Totals to gradients.
    terms
        On what terms it is trained and ranks; None for the default ones.
    """

    def __init__(self, backbone: Backbone, loss: Loss, rule: UpdateRule, terms: Terms | None = None) -> None:
        super().__init__(
            len(backbone.output_table().weight),
            backbone.task,
            backbone.max_length,
            rule,
            terms or Terms(),
            trainable=backbone.trainable,
            needs_seen=loss.needs_seen,
        )
        self.backbone, self.loss = backbone, loss
        if rule.sparse_gradients:
            backbone.use_sparse_gradients()

    def batch_losses(self, batch: Batch, item_weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Recommender.batch_losses``."""
        with self._products(self.precision.backbone):
            states = self.backbone.states(batch)
        states = states.float()
        weights = None if item_weights is None else item_weights.to(batch.targets.device)[:, batch.targets]
        with self._products(self.precision.loss):
            totals, losses = self.loss(states, batch.targets, self._output_table(), weights, _draw_of(batch))
        return totals, losses, batch.targets

    @torch.no_grad()
    def bounded(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Whether each target's loss is at least -log NDCG of its rank among all items, and what it is told from.

        Returns
        -------
        held
            [N] bool.
        met
            Items in the sum of some target's loss, [I] bool.
        """
        with self._products(self.precision.backbone):
            states = self.backbone.states(batch)
        states = states.float()
        table, draw = self.backbone.output_table(), _draw_of(batch)
        with self._products(self.precision.loss):
            losses = self.loss(states, batch.targets, table, None, draw)[1]
        ranks, _ = rank_by_scores(states, table, batch.targets, None, 0)
        # Beyond the rounding of the loss: a target ranked first is bounded by a loss of 0.
        held = losses >= torch.log2(1.0 + ranks).log() - 1e-6
        return held, self.loss.met(states, batch.targets, table, draw)

    def _output_table(self) -> OutputTable:
        """The table to score against; its gradients are sparse where the rule takes them so."""
        return self.backbone.output_table()._replace(sparse=self.rule.sparse_gradients and self.n_items >= LARGE_TABLE)

    def item_tables(self) -> list[Tensor]:
        """See ``Recommender.item_tables``."""
        return self.backbone.item_tables()

    def rank(self, batch: Batch, seen: SeenSets | None, k: int) -> tuple[Tensor, Tensor]:
        """See ``Recommender.rank``."""
        states = self.backbone.user_states(batch)
        return rank_by_scores(states, self.backbone.output_table(), batch.targets, self._masked(batch, seen), k)

    def listed(self, batch: Batch, seen: SeenSets | None, k: int) -> tuple[Tensor, Tensor]:
        """See ``Recommender.listed``."""
        states, table = self.backbone.user_states(batch), self.backbone.output_table()
        _, items = rank_by_scores(states, table, batch.targets, self._masked(batch, seen), k)
        known = items.clamp(min=0)
        scores = (states.unsqueeze(1) * table.weight[known]).sum(2)
        return items, scores if table.bias is None else scores + table.bias[known]


def _draw_of(batch: Batch) -> Draw:
    seen = batch.seen
    return Draw(
        keys=batch.target_streams(_NEGATIVES),
        step_key=batch.step_key,
        rows=batch.rows_of_targets(),
        seen_items=None if seen is None else seen.items,
        seen_offsets=None if seen is None else seen.offsets,
    )
