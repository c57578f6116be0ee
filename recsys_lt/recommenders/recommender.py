"""What every recommender's Lightning module shares: training by an update rule, and ranks of an evaluation."""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.data.tasks.task import Task
from recsys_lt.errors import UserError
from recsys_lt.optim.clipping import clip_norm
from recsys_lt.optim.rule import UpdateRule, added
from recsys_lt.optim.schedules import Constant, Schedule
from recsys_lt.recommenders.asking import Asking, Evaluate
from recsys_lt.recommenders.evaluation import Collector, Evaluation
from recsys_lt.recommenders.precision import FLOAT32, Precision

_DIVERGED = "Lower optimizer.lr or set trainer.clip=1; what was reached before is in the run folder"


@dataclass(frozen=True)
class Terms:
    """On what terms a recommender is trained and ranks.

    Parameters
    ----------
    mask_seen
        ``published`` (a user's earlier items cannot be recommended, a repeated target included),
        ``keep_target`` (all but the target) or ``none``.
    ks
        List lengths at which test exposure is counted.
    schedule
        How the learning rate changes from step to step.
    precision
        Which products are formed in fewer bits.
    accumulate
        Batches whose gradients make one step.
    clip
        Largest gradient norm of a step; None for no clipping.
    """

    mask_seen: str = "published"
    ks: tuple[int, ...] = (1, 5, 10, 20)
    schedule: Schedule = field(default_factory=Constant)
    precision: Precision = FLOAT32
    accumulate: int = 1
    clip: float | None = None


class Recommender(pl.LightningModule):
    """Answers two questions: what does a batch cost, and how would it rank the catalogue for these users.

    A subclass answers them (``batch_losses``, ``rank``); the same training step and the same evaluation serve all.

    Parameters
    ----------
    n_items
        Size of the catalogue, I.
    task
        What a training example is.
    max_length
        Latest events read of a history.
    rule
        Totals to gradients.
    terms
        See there.
    trainable
        False for a model that has nothing to learn by gradient.
    needs_seen
        Whether training batches carry each row's training items.
    n_candidates
        How many items a first stage finds for this model to put in order; None where there is no first stage.
    """

    def __init__(
        self,
        n_items: int,
        task: Task,
        max_length: int,
        rule: UpdateRule,
        terms: Terms,
        *,
        trainable: bool = True,
        needs_seen: bool = False,
        n_candidates: int | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.n_items, self.task, self.max_length = n_items, task, max_length
        self.trainable, self.needs_seen, self.n_candidates = trainable, needs_seen, n_candidates
        self.rule = rule
        self.mask_seen, self.ks = terms.mask_seen, terms.ks
        self.schedule, self.precision = terms.schedule, terms.precision
        self.accumulate, self.clip = terms.accumulate, terms.clip
        self.evaluation: Evaluation | None = None
        self._collector: Collector | None = None
        self.scaler: torch.amp.GradScaler | None = None
        self._scale: dict[str, Any] | None = None  # of the run to go on with
        # The batches of the step that is under way, for a rule that asks about all of them at once.
        self._waiting: list[Evaluate] = []
        self._targets: list[Tensor] = []

    # The first question: what does this batch cost?

    @abstractmethod
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

    # The second: how would it rank the catalogue for these users?

    @abstractmethod
    def rank(self, batch: Batch, seen: SeenSets | None, k: int) -> tuple[Tensor, Tensor]:
        """Ranks of the targets [B] (1-based) and first k items [B, k], ``seen`` items left out."""

    def retrieved(self, batch: Batch, seen: SeenSets | None) -> Tensor | None:
        """Ranks of the targets by a first stage alone, [B]: what bounds a model that orders what that one found."""
        return None

    def item_tables(self) -> list[Tensor]:
        """Parameters with one row an item; none for a model that answers in words."""
        return []

    def inseparable(self) -> Tensor | None:
        """Mask of items whose input equals another item's, so that scores tie, [I] bool.

        None for a model that knows every item apart.
        """
        return None

    @abstractmethod
    def listed(self, batch: Batch, seen: SeenSets | None, k: int) -> tuple[Tensor, Tensor]:
        """First k items and what they are ordered by, [B, k] each, ``seen`` items left out; -1 past a list's end."""

    def tokens_read(self) -> int | None:
        """Tokens a language model has read since it was loaded; None where there is none."""
        languages = [getattr(module, "language", None) for module in self.children()]
        read = [int(language.tokens_read) for language in languages if language is not None]
        return sum(read) if read else None

    def _products(self, dtype: torch.dtype | None) -> torch.autocast:
        # Without autocast's cache of converted weights, which would outlive a rule's moving of the parameters.
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None, cache_enabled=False)

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

    def configure_optimizers(self) -> Any:
        optimizer = self.rule.build(p for p in self.parameters() if p.requires_grad)
        if self.precision.scaled:
            self.scaler = torch.amp.GradScaler(self.device.type)
            if self._scale is not None:
                self.scaler.load_state_dict(self._scale)
        if isinstance(self.schedule, Constant) and self.schedule.warmup == 0:
            return optimizer
        epochs = int(self.trainer.max_epochs or 1)
        steps = epochs * -(-int(self.trainer.estimated_stepping_batches) // epochs // self.accumulate)
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.schedule(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": rate}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["rule"] = self.rule.state_dict()
        if self.scaler is not None:
            checkpoint["scaler"] = self.scaler.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.rule.load_state_dict(checkpoint.get("rule", {}))
        self._scale = checkpoint.get("scaler")  # Lightning asks for the optimizer after this

    def training_step(self, batch: Batch, step: int) -> None:
        optimizer: Any = self.optimizers()
        n_steps = int(self.trainer.num_training_batches)
        first = step - step % self.accumulate
        last = min(first + self.accumulate, n_steps) - 1  # an epoch's last group may be smaller
        if step == first:
            optimizer.zero_grad()
        step_targets = batch.step_targets or batch.global_targets
        self._waiting.append(self._part_in_step(batch, step_targets))
        self._targets.append(batch.targets)
        self.last_total = None
        if self.rule.per_step and step != last:
            return
        parameters = [p for p in self.parameters() if p.requires_grad]
        gradients = [p.grad for p in parameters]
        total, own = self.rule.gradients(Asking(parameters, self._waiting, self._all_targets, self._backward))
        for p, sum_ in zip(parameters, added(gradients, own), strict=True):
            p.grad = sum_
        # A whole step's mean; else the batch's own, whatever its part in the step.
        self.last_total = total if self.rule.per_step else total * (step_targets / batch.global_targets)
        self._waiting, self._targets = [], []
        self._check_finite(total, step)
        if step == last:
            self._step(optimizer)
        if step == n_steps - 1:  # no loss looks at what the last step of an epoch left
            self._check_weights()

    def _part_in_step(self, batch: Batch, step_targets: int) -> Evaluate:
        """The batch's totals, weighed by its part in the mean over the step's targets."""
        if len(batch) == 0:  # this rank has no part of a last, small batch, but the others wait for its gradients

            def nothing(weights: Tensor | None) -> Tensor:
                total = sum(p.sum() for p in self.parameters() if p.requires_grad) * 0.0
                return torch.as_tensor(total).expand(1 if weights is None else len(weights))

            return nothing
        # Ranks average and batches add their gradients.
        share = len(batch.targets) * self.trainer.world_size / step_targets
        return lambda weights: self.batch_losses(batch, weights)[0] * share

    def _all_targets(self) -> Tensor:
        """Item ids of the targets of the batches that wait, those of other processes too."""
        mine = torch.cat(self._targets)
        if self.trainer.world_size == 1:
            return mine
        met = torch.zeros(self.n_items, dtype=torch.uint8, device=mine.device).index_fill_(0, mine, 1)
        torch.distributed.all_reduce(met, torch.distributed.ReduceOp.MAX)
        return met.nonzero().squeeze(1)

    def _backward(self, total: Tensor, /, *, retain_graph: bool = False) -> None:
        # Every gradient of a step has the same factor, so they add up; a ball's radius does not depend on it.
        self.manual_backward(total if self.scaler is None else self.scaler.scale(total), retain_graph=retain_graph)

    def _step(self, optimizer: Any) -> None:
        if self.scaler is not None:
            self.scaler.unscale_(optimizer.optimizer)  # its kernels read what the scaler found
        if self.clip is not None:
            if self.rule.sparse_gradients:
                clip_norm(self.parameters(), self.clip)
            else:
                self.clip_gradients(optimizer, gradient_clip_val=self.clip, gradient_clip_algorithm="norm")
        if self.scaler is None:
            optimizer.step()
        else:
            before = self.scaler.get_scale()
            self.scaler.step(optimizer.optimizer)
            self.scaler.update()
            if self.scaler.get_scale() < before:
                self.rule.overflowed()
        schedule: Any = self.lr_schedulers()
        if schedule is not None:
            schedule.step()

    def _check_finite(self, total: Tensor, step: int) -> None:
        if not bool(torch.isfinite(total)):
            raise UserError(
                f"the loss is {float(total)} at epoch {self.current_epoch + 1}, step {step + 1}",
                where="training",
                remedy=_DIVERGED,
            )

    def _check_weights(self) -> None:
        if not all(bool(torch.isfinite(p).all()) for p in self.parameters() if p.requires_grad):
            raise UserError(
                f"the last step of epoch {self.current_epoch + 1} made weights that are not finite",
                where="training",
                remedy=_DIVERGED,
            )

    # Evaluation: ranks once, metrics from ranks.

    def on_validation_epoch_start(self) -> None:
        self._collector = Collector(self.n_items, (), self.n_candidates)

    def validation_step(self, batch: Batch, _step: int) -> None:
        self._collect(batch, k=0)

    def on_validation_epoch_end(self) -> None:
        assert self._collector is not None
        self.evaluation = self._collector.finish()

    def on_test_epoch_start(self) -> None:
        self._collector = Collector(self.n_items, self.ks, self.n_candidates)

    def test_step(self, batch: Batch, _step: int) -> None:
        self._collect(batch, k=min(max(self.ks), self.n_items))

    def on_test_epoch_end(self) -> None:
        self.on_validation_epoch_end()

    def _collect(self, batch: Batch, k: int) -> None:
        assert self._collector is not None
        ranks, top_items = self.rank(batch, batch.seen, k)
        self._collector.add(batch.users, batch.targets, ranks, top_items, self.retrieved(batch, batch.seen))
