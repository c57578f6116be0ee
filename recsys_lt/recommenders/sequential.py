"""The Lightning module of every recommender that scores states against an output table."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from recsys_lt.backbones.backbone import LARGE_TABLE, Backbone
from recsys_lt.backbones.dropout import row_streams
from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.errors import UserError
from recsys_lt.losses.loss import Draw, Loss
from recsys_lt.optim.clipping import clip_norm
from recsys_lt.optim.rule import UpdateRule
from recsys_lt.output_table import OutputTable
from recsys_lt.recommenders.counting import rank_by_scores
from recsys_lt.recommenders.evaluation import Collector, Evaluation
from recsys_lt.streams import key_of, keys_of

_NEGATIVES = key_of(4)  # sets the negatives' streams apart from dropout's


class SequentialRecommender(pl.LightningModule):
    """A backbone, a loss and an update rule; answers the two questions of every recommender.

    Parameters
    ----------
    backbone
        Histories to states.
    loss
        States to totals.
    rule
        Totals to gradients.
    mask_seen
        ``published`` (a user's earlier items cannot be recommended, a repeated target included),
        ``keep_target`` (all but the target) or ``none``.
    ks
        List lengths at which test exposure is counted.
    logits_bf16
        Form the loss's products in bfloat16, sums in float32.
    accumulate
        Batches whose gradients make one step.
    clip
        Largest gradient norm of a step; None for no clipping.
    """

    def __init__(
        self,
        backbone: Backbone,
        loss: Loss,
        rule: UpdateRule,
        *,
        mask_seen: str = "published",
        ks: tuple[int, ...] = (1, 5, 10, 20),
        logits_bf16: bool = False,
        accumulate: int = 1,
        clip: float | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.backbone, self.loss, self.rule = backbone, loss, rule
        self.mask_seen, self.ks, self.logits_bf16 = mask_seen, ks, logits_bf16
        self.accumulate, self.clip = accumulate, clip
        self.n_items = len(backbone.output_table().weight)
        if rule.rows:
            backbone.read_by_rows()
        self.evaluation: Evaluation | None = None
        self._collector: Collector | None = None

    # The first question: what does this batch cost?

    def batch_losses(self, batch: Batch, item_weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted mean losses of a batch, in one pass.

        Parameters
        ----------
        batch
            N targets.
        item_weights
            [W, I]: a target weighs what its item does; None is one row of ones.

        Returns
        -------
        totals
            [W], differentiable. Pure: asking again draws the same negatives and dropout masks.
        losses
            Of each target, [N], detached.
        items
            Whose losses they are, [N].
        """
        states = self.backbone.states(batch)
        weights = None if item_weights is None else item_weights.to(batch.targets.device)[:, batch.targets]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.logits_bf16):
            totals, losses = self.loss(states, batch.targets, self._output_table(), weights, _draw_of(batch))
        return totals, losses, batch.targets

    def _output_table(self) -> OutputTable:
        """What is scored against; its gradients by rows where the rule takes them so."""
        return self.backbone.output_table()._replace(rows=self.rule.rows and self.n_items >= LARGE_TABLE)

    # The second: how would it rank the catalogue for these users?

    def rank(self, batch: Batch, seen: SeenSets | None, k: int) -> tuple[Tensor, Tensor]:
        """Ranks of the targets [B] (1-based) and first k items [B, k], ``seen`` items left out."""
        states = self.backbone.user_states(batch)
        return rank_by_scores(states, self.backbone.output_table(), batch.targets, self._masked(batch, seen), k)

    def _masked(self, batch: Batch, seen: SeenSets | None) -> SeenSets | None:
        if seen is None or self.mask_seen == "none":
            return None
        if self.mask_seen == "published" or len(batch.targets) == 0:
            return seen
        row = torch.repeat_interleave(seen.offsets.diff(), output_size=len(seen.items))
        other = seen.items != batch.targets[row]
        lengths = torch.zeros_like(batch.targets).index_add_(0, row, other.long())
        return SeenSets(seen.items[other], torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))

    # Training: the update rule asks, this answers; the same way for every rule.

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.rule.build(p for p in self.parameters() if p.requires_grad)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["rule"] = self.rule.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.rule.load_state_dict(checkpoint.get("rule", {}))

    def training_step(self, batch: Batch, step: int) -> None:
        optimizer: Any = self.optimizers()
        n_steps = int(self.trainer.num_training_batches)
        first = step - step % self.accumulate
        last = min(first + self.accumulate, n_steps) - 1  # an epoch's last group may be smaller
        # Ranks average and batches add their gradients; weighed so, that is the mean over the step's targets.
        step_targets = batch.step_targets or batch.global_targets
        share = len(batch.targets) * self.trainer.world_size / step_targets
        if step == first:
            optimizer.zero_grad()
        if len(batch) == 0:  # this rank has no part of a last, small batch, but the others wait for its gradients
            total = torch.zeros((), device=self.device)
            self.manual_backward(sum(p.sum() for p in self.parameters() if p.requires_grad) * 0.0)
        else:
            total = self.rule.accumulate(
                lambda weights: self.batch_losses(batch, weights)[0] * share, self.manual_backward
            )
        self._check_finite(total, step)
        if step == last:
            if self.clip is not None:
                if self.rule.rows:
                    clip_norm(self.parameters(), self.clip)
                else:
                    self.clip_gradients(optimizer, gradient_clip_val=self.clip, gradient_clip_algorithm="norm")
            optimizer.step()
        # The batch's own mean, whatever its part in the step.
        self.last_total = total * (step_targets / batch.global_targets)

    def _check_finite(self, total: Tensor, step: int) -> None:
        if not bool(torch.isfinite(total)):
            raise UserError(
                f"the loss is {float(total)} at epoch {self.current_epoch + 1}, step {step + 1}",
                where="training",
                remedy="Lower optimizer.lr or set trainer.clip=1; what was reached before is in the run folder",
            )

    # Evaluation: ranks once, metrics from ranks.

    def on_validation_epoch_start(self) -> None:
        self._collector = Collector(self.n_items, ())

    def validation_step(self, batch: Batch, _step: int) -> None:
        self._collect(batch, k=0)

    def on_validation_epoch_end(self) -> None:
        assert self._collector is not None
        self.evaluation = self._collector.finish()

    def on_test_epoch_start(self) -> None:
        self._collector = Collector(self.n_items, self.ks)

    def test_step(self, batch: Batch, _step: int) -> None:
        self._collect(batch, k=max(self.ks))

    def on_test_epoch_end(self) -> None:
        self.on_validation_epoch_end()

    def _collect(self, batch: Batch, k: int) -> None:
        assert self._collector is not None
        ranks, top_items = self.rank(batch, batch.seen, k)
        self._collector.add(batch.users, batch.targets, ranks, top_items)


def _draw_of(batch: Batch) -> Draw:
    rows = batch.rows_of_targets()
    # A target is its row and, where every position has one, its place in it.
    event = batch.target_events
    if event is None and len(rows) == len(batch.items):
        event = torch.arange(len(rows), device=rows.device)
    place = 0 if event is None else event - batch.offsets[rows]
    seen = batch.seen
    return Draw(
        keys=keys_of(_NEGATIVES, row_streams(batch)[rows] + place),
        step_key=batch.step_key,
        rows=rows,
        seen_items=None if seen is None else seen.items,
        seen_offsets=None if seen is None else seen.offsets,
    )
