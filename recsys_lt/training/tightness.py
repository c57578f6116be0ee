"""How often the loss of a target bounds -log NDCG, and which share of the catalogue it covers, in training."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.errors import UserError
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.metrics.groups import GROUPS, ItemGroups
from recsys_lt.recommenders.full_ranking import rank_by_scores
from recsys_lt.recommenders.sequential import SequentialRecommender, draw_of

#: Prefix of its columns of the learning curve.
PREFIX = "bound/"


class _Sums(NamedTuple):
    """Counts by group: of targets, of those whose loss is a bound, and of covered items."""

    bounded: Tensor
    targets: Tensor
    covered: Tensor
    steps: int


@torch.no_grad()
def bounds(module: SequentialRecommender, batch: Batch) -> tuple[Tensor, Tensor]:
    """Whether each target's loss is at least -log NDCG of its rank among all items, and the items it covers.

    The first is [N] bool; the second are the items that are negatives of some target, [I] bool.
    """
    module.begin_step()
    states, table, draw = module.training_states(batch), module.backbone.output_table(), draw_of(batch)
    if not isinstance(table, OutputTable):
        raise UserError("the model scores items without vectors", where="metrics.bound_targets", remedy="Leave it out")
    with module.autocast(module.precision.loss):
        losses = module.loss(states, batch.targets, table, None, draw)[1]
    ranks = rank_by_scores(states, table, batch.targets, None, 0).target_rank
    # Beyond the rounding of the loss: a target ranked first is bounded by a loss of 0.
    bounded = losses >= torch.log2(1.0 + ranks).log() - 1e-6
    return bounded, module.loss.covered(states, batch.targets, table, draw)


class Tightness(pl.Callback):
    """Measures ``bounds`` on the first targets of an epoch, a random sample, as rows are shuffled.

    Nothing of the run changes: a recommender's evaluations are pure. Whole batches are measured, so ``n_targets`` is
    the least; of several processes, the first one's targets are measured.
    """

    def __init__(self, n_targets: int, groups: ItemGroups) -> None:
        self.n_targets = n_targets
        self._of = torch.from_numpy(groups.of).long()
        self._sizes = torch.bincount(self._of, minlength=len(GROUPS)).float()
        self._sums = self._nothing()

    def _nothing(self) -> _Sums:
        bounded, targets, covered = torch.zeros(3, len(GROUPS))
        return _Sums(bounded, targets, covered, 0)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._sums = self._nothing()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        bounded, targets, covered, steps = self._sums
        if int(targets.sum()) >= self.n_targets or len(batch.targets) == 0:
            return
        those_bounded, those_covered = (found.cpu() for found in bounds(pl_module, batch))
        of = self._of[batch.targets.cpu()]
        self._sums = _Sums(
            bounded.index_add(0, of, those_bounded.float()),
            targets + torch.bincount(of, minlength=len(GROUPS)),
            covered + torch.bincount(self._of[those_covered], minlength=len(GROUPS)),
            steps + 1,
        )

    def row(self) -> Mapping[str, float]:
        """Columns of the epoch: ``bound/ndcg`` and ``bound/met``, and both of head, mid and tail.

        ``ndcg`` is the share of targets with -log NDCG of their rank among all items at most their loss; ``met`` the
        share of items that are negatives of some target of a batch, a mean over batches.
        """
        bounded, targets, covered, steps = self._sums
        if not steps:
            return {}
        row = {
            f"{PREFIX}ndcg": float(bounded.sum() / targets.sum()),
            f"{PREFIX}met": float(covered.sum() / steps / self._sizes.sum()),
        }
        for number, group in enumerate(GROUPS):
            if targets[number]:
                row[f"{PREFIX}{group}/ndcg"] = float(bounded[number] / targets[number])
            if self._sizes[number]:
                row[f"{PREFIX}{group}/met"] = float(covered[number] / steps / self._sizes[number])
        return row
