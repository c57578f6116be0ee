"""How often the loss of a target bounds -log NDCG, and which share of the catalogue it covers, in training."""

from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.errors import UserError
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.losses.sampled import SampledLoss
from recsys_lt.metrics.groups import GROUPS, ItemGroups
from recsys_lt.recommenders.full_ranking import rank_by_scores
from recsys_lt.recommenders.sequential import SequentialRecommender, draw_of
from studies.ce_sce.losses import Truncated

_WHERE = "callbacks.tightness"


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
    losses = module.batch_losses(batch)[1]
    with module.autocast(module.precision.backbone):
        states = module.backbone.states(batch).float()
    table = module.backbone.scorer()
    if not isinstance(table, OutputTable):
        raise UserError("the model scores items without vectors", where=_WHERE, remedy="Leave it out")
    ranks = rank_by_scores(states, table, batch.targets, None, 0).target_rank
    # Beyond the rounding of the loss: a target ranked first is bounded by a loss of 0.
    bounded = losses >= torch.log2(1.0 + ranks).log() - 1e-6
    return bounded, _covered(module, states, table, batch)


def _covered(module: SequentialRecommender, states: Tensor, table: OutputTable, batch: Batch) -> Tensor:
    """Items that are negatives of some target, [I] bool; those of a full softmax are all items."""
    if isinstance(module.loss, Truncated):
        return module.loss.covered(states, batch.targets, table)
    if not isinstance(module.loss, SampledLoss):
        return torch.ones(table.n_items, dtype=torch.bool, device=states.device)
    ids, _ = module.loss.negatives(draw_of(batch), batch.targets, table.n_items)
    found = torch.zeros(table.n_items, dtype=torch.bool, device=states.device)
    found[ids.flatten()] = True
    return found


class Tightness(pl.Callback):
    """Measures ``bounds`` on the first targets of an epoch, a random sample, as rows are shuffled.

    The learning curve gets ``bound/ndcg``, the share of targets with -log NDCG of their rank among all items at most
    their loss, and ``bound/met``, the share of items that are negatives of some target of a batch, a mean over batches;
    both of head, mid and tail too (``bound/head/ndcg``), by the usual shares of the catalogue. Nothing of the run
    changes: a recommender's evaluations are pure. Whole batches are measured, so ``n_targets`` is the least; of several
    processes, the first one's targets are measured.
    """

    def __init__(self, n_targets: int = 4096) -> None:
        if n_targets < 1:
            raise UserError(f"it is {n_targets}", where=f"{_WHERE}.n_targets", remedy="Give a positive number")
        self.n_targets = n_targets

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, SequentialRecommender):
            what = "this model's objective is its own, and bounds no rank"
            raise UserError(what, where=_WHERE, remedy="Leave it out")
        loader: Any = trainer.train_dataloader
        self._of = torch.from_numpy(ItemGroups(loader.dataset.data.popularity).of).long()
        self._sizes = torch.bincount(self._of, minlength=len(GROUPS)).float()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        bounded, targets, covered = torch.zeros(3, len(GROUPS))
        self._sums = _Sums(bounded, targets, covered, 0)

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

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        bounded, targets, covered, steps = self._sums
        if not steps:
            return
        pl_module.log("bound/ndcg", bounded.sum() / targets.sum())
        pl_module.log("bound/met", covered.sum() / steps / self._sizes.sum())
        for number, group in enumerate(GROUPS):
            if targets[number]:
                pl_module.log(f"bound/{group}/ndcg", bounded[number] / targets[number])
            if self._sizes[number]:
                pl_module.log(f"bound/{group}/met", covered[number] / steps / self._sizes[number])
