"""How often the loss bounds the metric it stands for, and how much of the catalogue it looks at, while training."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from recsys_lt.metrics.groups import GROUPS, ItemGroups
from recsys_lt.recommenders.sequential import SequentialRecommender

#: What stands before its columns of the learning curve.
PREFIX = "bound/"


class _Sums(NamedTuple):
    """Of all targets and by group of the target; ``met`` by group of the items."""

    held: Tensor
    targets: Tensor
    met: Tensor
    steps: int


class Tightness(pl.Callback):
    """Looks at an epoch's first targets (a random sample: rows are shuffled) as each batch is about to be asked.

    Nothing of the run changes: a recommender's answers are pure. With several processes the first one's targets are
    looked at.

    Parameters
    ----------
    n_targets
        How many targets an epoch, at least; whole batches are looked at.
    groups
        Head, mid and tail.
    """

    def __init__(self, n_targets: int, groups: ItemGroups) -> None:
        self.n_targets = n_targets
        self._of = torch.from_numpy(groups.of).long()
        self._sizes = torch.bincount(self._of, minlength=len(GROUPS)).float()
        self._sums = self._nothing()

    def _nothing(self) -> _Sums:
        held, targets, met = torch.zeros(3, len(GROUPS))
        return _Sums(held, targets, met, 0)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._sums = self._nothing()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, SequentialRecommender)
        held, targets, met, steps = self._sums
        if int(targets.sum()) >= self.n_targets or len(batch.targets) == 0:
            return
        bounded, reached = (found.cpu() for found in pl_module.bounded(batch))
        of = self._of[batch.targets.cpu()]
        self._sums = _Sums(
            held.index_add(0, of, bounded.float()),
            targets + torch.bincount(of, minlength=len(GROUPS)),
            met + torch.bincount(self._of[reached], minlength=len(GROUPS)),
            steps + 1,
        )

    def row(self) -> Mapping[str, float]:
        """Columns of the epoch: ``bound/ndcg`` and ``bound/met``, and both of head, mid and tail.

        ``ndcg`` is the share of targets with -log NDCG of their rank among all items at most their loss; ``met`` the
        share of items that a batch's losses tell its targets from, a mean over batches.
        """
        held, targets, met, steps = self._sums
        if not steps:
            return {}
        row = {
            f"{PREFIX}ndcg": float(held.sum() / targets.sum()),
            f"{PREFIX}met": float(met.sum() / steps / self._sizes.sum()),
        }
        for number, group in enumerate(GROUPS):
            if targets[number]:
                row[f"{PREFIX}{group}/ndcg"] = float(held[number] / targets[number])
            if self._sizes[number]:
                row[f"{PREFIX}{group}/met"] = float(met[number] / steps / self._sizes[number])
        return row
