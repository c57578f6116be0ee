"""The Lightning module of every recommender: training by an update rule, and the ranks of an evaluation."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.data.needs import HasNeeds
from recsys_lt.data.tasks.task import Task
from recsys_lt.errors import UserError
from recsys_lt.losses.loss import Loss
from recsys_lt.losses.output_table import Scorer
from recsys_lt.optim.lazy_adam import clip_norm
from recsys_lt.optim.rule import UpdateRule, added
from recsys_lt.optim.schedules import Constant, Schedule
from recsys_lt.recommenders.full_ranking import Collector, Evaluation, Ranking, scores_of
from recsys_lt.recommenders.step_closure import StepClosure
from recsys_lt.system import package

if TYPE_CHECKING or not package.only_ranks:
    from pytorch_lightning import LightningModule as Module
else:  # Lightning takes three seconds to import, and ranking needs nothing of it

    class Module(nn.Module):
        """A torch module that knows where its tensors are, as Lightning's does."""

        @property
        def device(self) -> torch.device:
            return next((each.device for each in chain(self.parameters(), self.buffers())), torch.device("cpu"))


#: Batches from one measurement of training health to the next.
_HEALTH = 20


@dataclass(frozen=True)
class Precision:
    """Which products are formed in fewer bits. Parameters, gradients, sums and rankings are float32 always."""

    backbone: torch.dtype | None = None  # type of the backbone's products, by autocast; None for float32
    loss: torch.dtype | None = None  # type of the loss's products; None for float32
    scaled: bool = False  # whether losses are multiplied by a factor that keeps small gradients from vanishing

    def check(self, device: torch.device) -> None:
        """Raise UserError where the device does not do it."""
        if self.scaled and device.type == "cpu":
            raise UserError(
                "a CPU has no fp16 products worth having",
                where="precision",
                remedy="Use precision=bf16-mixed, or float32",
            )


FLOAT32 = Precision()
PRECISIONS = {
    "float32": FLOAT32,
    "bf16": Precision(loss=torch.bfloat16),
    "bf16-mixed": Precision(backbone=torch.bfloat16, loss=torch.bfloat16),
    # exp overflows float16 at 11, so a fused loss stays in float32.
    "fp16-mixed": Precision(backbone=torch.float16, scaled=True),
}


@dataclass(frozen=True)
class Terms:
    """On what terms a recommender is trained and ranks."""

    #: published: no item of a user's history is recommended; keep_target: but the target; none
    mask_seen: str = "published"
    ks: tuple[int, ...] = (1, 5, 10, 20)  # list lengths at which test exposure is counted
    schedule: Schedule = field(default_factory=Constant)  # how the learning rate changes from step to step
    precision: Precision = FLOAT32  # which products are formed in fewer bits
    accumulate: int = 1  # batches whose gradients make one step
    clip: float | None = None  # largest gradient norm of a step; None for no clipping


class Recommender(HasNeeds, Module):
    """Answers two questions: what does a batch cost, and how is the catalogue ranked for these users.

    A subclass answers them (``batch_losses``, ``rank``); the same training step and the same evaluation serve all. A
    model with an objective of its own is a subclass; ``SequentialRecommender`` is that of all backbones.

    Parameters
    ----------
    n_items, task, max_length
        Size of the catalogue, I; what a training example is; latest events read of a history.
    trainable
        False for a model that has nothing to learn by gradient.
    needs_seen
        Whether training batches carry each row's training items.
    """

    #: Whether a model of this class is trained by a loss of the ``loss`` group.
    takes_loss: ClassVar[bool] = False
    #: Whether a loss of answers (``Loss.of_answers``) may train it in the place of its own objective.
    takes_preferences: ClassVar[bool] = False
    #: Whether it needs ids of items, of the ``item_ids`` group: ``DataFacts.needs["item_ids"]``, an ``IdMap``.
    takes_item_ids: ClassVar[bool] = False
    #: Whether it knows its users, by a vector or a number of each, so that it ranks for those it was trained on alone.
    keeps_users: ClassVar[bool] = False
    rule: UpdateRule

    def __init__(
        self, n_items: int, task: Task, max_length: int, *, trainable: bool = True, needs_seen: bool = False
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.n_items, self.task, self.max_length = n_items, task, max_length
        self.trainable, self.needs_seen = trainable, needs_seen
        self.evaluation: Evaluation | None = None
        self._collector: Collector | None = None
        self.scaler: torch.amp.GradScaler | None = None
        self._scale: dict[str, Any] | None = None  # of the run to go on with
        # The batches of the step that is under way, for a rule that evaluates all of them at once; their shares in it.
        self._waiting: list[Batch] = []
        self._shares: list[float] = []

    def prepare_training(self, rule: UpdateRule, terms: Terms) -> None:
        """Set how the module is trained (``rule``: totals to gradients) and ranks."""
        self.rule = rule
        self.mask_seen, self.ks = terms.mask_seen, terms.ks
        self.schedule, self.precision = terms.schedule, terms.precision
        self.accumulate, self.clip = terms.accumulate, terms.clip

    def take_loss(self, loss: Loss) -> None:
        """Take the run's loss, where a model of this class may be trained by one (``takes_preferences``)."""

    @property
    def model(self) -> nn.Module:
        """The model alone, as a run that needs this one is given it."""
        return self

    # Hooks.

    def begin_step(self) -> None:
        """Compute what the batches of a step share, such as a projected table or a propagated graph, with gradients.

        Called before each evaluation of a step: parameters have moved since the evaluation before it.
        """

    def begin_ranking(self) -> None:
        """The same before a ranking, without gradients."""

    def facts(self) -> Mapping[str, Any]:
        """Facts of the model that callbacks and results may log.

        ``tokens_read``: tokens that a language model has read since it was loaded. ``candidates``: how many of a
        retriever's first items are re-ranked. ``indistinct``: items that the model cannot tell from another, so that
        their scores tie, [I] bool. ``first_codes``: the first token of each item's id, [I]. ``chosen``: settings that
        it chose on validation users itself, by name. ``notes``: what else belongs beside its results, plain values by
        name. Each only where there is such a thing.
        """
        return {}

    def item_tables(self) -> list[Tensor]:
        """Parameters with one row an item, which update rules may perturb by rows."""
        return []

    # The first question: what does this batch cost?

    @abstractmethod
    def batch_losses(self, batch: Batch, item_weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted mean losses of a batch, in one pass.

        Parameters
        ----------
        batch
            N targets.
        item_weights
            [W, I], on the module's device: the weight of a target is its item's; None is one row of ones.

        Returns
        -------
        totals
            [W], differentiable. Pure: a second call draws the same negatives and dropout masks.
        losses
            Of each target, [N], detached.
        items
            Whose losses they are, [N].
        """

    def health(self, batch: Batch) -> Mapping[str, Tensor]:
        """Means over the batch's targets that say how training goes, by name; {} where there are none.

        Called on some batches of an epoch, without gradients, before the batch's step.
        """
        return {}

    def target_weights(self, batch: Batch, item_weights: Tensor | None) -> Tensor | None:
        """The weights of a batch's targets, [W, I] -> [W, N]."""
        return None if item_weights is None else item_weights[:, batch.targets]

    def autocast(self, dtype: torch.dtype | None) -> torch.autocast:
        """Products in ``dtype``; None for float32."""
        # Without autocast's cache of converted weights, which would outlive a rule's moving of the parameters.
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None, cache_enabled=False)

    # The second: how would it rank the catalogue for these users?

    @abstractmethod
    def rank(self, batch: Batch, k: int) -> Ranking:
        """Rank the items that are not ``masked`` for each user of a batch, which may have no targets.

        Lists are of k items; 0 is for none (validation).
        """

    def scored(self, batch: Batch) -> tuple[Tensor, Scorer] | None:
        """States [B, ...] of a batch's users, and what scores every item for them; None for a model that only lists."""
        return None

    def item_scores(self, batch: Batch, items: Tensor) -> Tensor | None:
        """Scores of some items for each user, [B, C] for items [B, C]; None for a model that gives none.

        Only their order means something.
        """
        found = self.scored(batch)
        return None if found is None else scores_of(*found, items)

    def masked(self, batch: Batch) -> SeenSets | None:
        """Items never recommended to a batch's users: its seen items, without the target if ``mask_seen`` keeps it."""
        return batch.masked(self.mask_seen)

    # Training: the update rule evaluates the closure of a step; the same way for every rule.

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
        self._scale = checkpoint.get("scaler")  # Lightning configures the optimizer after this

    def training_step(self, batch: Batch, step: int) -> None:
        optimizer: Any = self.optimizers()
        n_steps = int(self.trainer.num_training_batches)
        first = step - step % self.accumulate
        last = min(first + self.accumulate, n_steps) - 1  # an epoch's last group may be smaller
        if step == first:
            optimizer.zero_grad()
        if step % _HEALTH == 0 and len(batch.targets):
            self._log_health(batch)
        step_targets = batch.step_targets or batch.global_targets
        self._waiting.append(batch)
        # Ranks average and batches add their gradients.
        self._shares.append(len(batch.targets) * self.trainer.world_size / step_targets)
        self.last_total = None
        if self.rule.per_step and step != last:
            return
        parameters = [p for p in self.parameters() if p.requires_grad]
        gradients = [p.grad for p in parameters]
        closure = StepClosure(self, parameters, self._waiting, self._shares, self._backward)
        total, own = self.rule.gradients(closure)
        for p, sum_ in zip(parameters, added(gradients, own), strict=True):
            p.grad = sum_
        # A whole step's mean; else the batch's own, whatever its part in the step.
        self.last_total = total if self.rule.per_step else total * (step_targets / batch.global_targets)
        self._waiting, self._shares = [], []
        if not bool(torch.isfinite(total)):
            raise _diverged(f"the loss is {float(total)} at epoch {self.current_epoch + 1}, step {step + 1}")
        if step == last:
            self._step(optimizer)
        # No loss looks at what the last step of an epoch left.
        if step == n_steps - 1 and not all(bool(torch.isfinite(p).all()) for p in parameters):
            raise _diverged(f"the last step of epoch {self.current_epoch + 1} made weights that are not finite")

    @torch.no_grad()
    def _log_health(self, batch: Batch) -> None:
        for name, value in self.health(batch).items():
            self.log(f"train/{name}", value, on_step=False, on_epoch=True, batch_size=len(batch.targets))

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

    # Evaluation: ranks once, metrics from ranks.

    def on_validation_epoch_start(self) -> None:
        self._begin_evaluation(())

    def validation_step(self, batch: Batch, _step: int) -> None:
        self._collect(batch, k=0)

    def on_validation_epoch_end(self) -> None:
        assert self._collector is not None
        self.evaluation = self._collector.finish()

    def on_test_epoch_start(self) -> None:
        self._begin_evaluation(self.ks)

    def test_step(self, batch: Batch, _step: int) -> None:
        self._collect(batch, k=min(max(self.ks), self.n_items))

    on_test_epoch_end = on_validation_epoch_end

    def _begin_evaluation(self, ks: tuple[int, ...]) -> None:
        self._collector = Collector(self.n_items, ks, self.facts().get("candidates"))
        self.begin_ranking()

    def _collect(self, batch: Batch, k: int) -> None:
        assert self._collector is not None
        ranking = self.rank(batch, k)
        ranking.check(len(batch), len(batch.targets), k, type(self).__name__)
        self._collector.add(batch.users, batch.targets, ranking)


def _diverged(what: str) -> UserError:
    remedy = "Lower optimizer.lr or set trainer.clip=1; what was reached before is in the run folder"
    return UserError(what, where="training", remedy=remedy)
