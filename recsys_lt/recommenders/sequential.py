"""The recommender that scores a backbone's states against an output table."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.backbones.content import Content
from recsys_lt.data.batch import Batch
from recsys_lt.data.streams import key_of
from recsys_lt.data.tasks.next_item import NextItem
from recsys_lt.data.tasks.task import Task
from recsys_lt.errors import UserError
from recsys_lt.losses.answering import Scored
from recsys_lt.losses.loss import Draw, Loss
from recsys_lt.losses.output_table import LARGE_TABLE, OutputTable, Scorer
from recsys_lt.optim.rule import UpdateRule
from recsys_lt.recommenders.full_ranking import Ranking, rank_by_scores
from recsys_lt.recommenders.recommender import Recommender, Terms

_NEGATIVES = key_of(4)  # sets the negatives' streams apart from dropout's


class SequentialRecommender(Recommender):
    """A backbone (histories to states), a loss (states to totals) and an update rule (totals to gradients).

    ``content`` are the backbone's item tables that are computed from item features; None where there are none.
    """

    def __init__(
        self, backbone: Backbone, loss: Loss, rule: UpdateRule, terms: Terms, content: Content | None = None
    ) -> None:
        super().__init__(
            backbone.output_table().n_items,
            backbone.task,
            backbone.max_length,
            trainable=backbone.trainable,
            needs_seen=loss.needs_seen,
        )
        self.prepare_training(rule, terms)
        self.backbone, self.loss, self.content = backbone, loss, content
        backbone.cosine = loss.cosine and backbone.trainable  # popularity is a score as it is
        for name, model in loss.compared.items():
            check_compared(name, model, backbone.task, backbone.max_length)
        if rule.sparse_gradients:
            backbone.use_sparse_gradients()

    def begin_step(self) -> None:
        if self.content is not None:
            self.content.begin()
        self.backbone.begin_step()

    def begin_ranking(self) -> None:
        if self.content is not None:
            self.content.begin()
        self.backbone.begin_ranking()

    def facts(self) -> Mapping[str, Any]:
        return self.backbone.facts()

    @property
    def model(self) -> Backbone:
        """The backbone."""
        return self.backbone

    def batch_losses(self, batch: Batch, item_weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        states = self._states(batch)
        weights = self.target_weights(batch, item_weights)
        scorer = self.backbone.scorer()
        with self.autocast(self.precision.loss):
            if isinstance(scorer, OutputTable):
                sparse = self.rule.sparse_gradients and scorer.weight.is_leaf and self.n_items >= LARGE_TABLE
                table = scorer._replace(sparse=sparse)
                found = self.loss(states, batch.targets, table, weights, self._draw(batch))
            else:
                found = self.loss.by_blocks(states, batch.targets, scorer, weights)
        totals, losses = _checked_losses(found, len(batch.targets), weights, type(self.loss).__name__)
        return totals, losses, batch.targets

    def _states(self, batch: Batch) -> Tensor:
        with self.autocast(self.precision.backbone):
            states = self.backbone.states(batch)
        _check_states(states, len(batch.targets), f"{type(self.backbone).__name__}.states", "target")
        return states.float()

    def _draw(self, batch: Batch) -> Draw:
        """The batch's draw, with what the models say that the loss compares with."""
        with self.autocast(self.precision.backbone):
            frozen = {name: scored_by(model.to(self.device), batch) for name, model in self.loss.compared.items()}
        return replace(draw_of(batch), frozen=frozen)

    def health(self, batch: Batch) -> Mapping[str, Tensor]:
        if not self.loss.has_health:
            return {}
        self.begin_step()
        scorer = self.backbone.scorer()
        assert isinstance(scorer, OutputTable)  # the batch's loss refuses others
        return self.loss.health(self._states(batch), batch.targets, scorer, self._draw(batch))

    def item_tables(self) -> list[Tensor]:
        return self.backbone.item_tables() if self.content is None else self.content.item_tables

    def scored(self, batch: Batch) -> tuple[Tensor, Scorer]:
        states = self.backbone.user_states(batch)
        _check_states(states, len(batch), f"{type(self.backbone).__name__}.user_states", "user")
        return states, self.backbone.scorer()

    def rank(self, batch: Batch, k: int) -> Ranking:
        return rank_by_scores(*self.scored(batch), batch.targets, self.masked(batch), k)


def draw_of(batch: Batch) -> Draw:
    """Random streams of a batch's negatives, and the items that may not be drawn."""
    seen = batch.seen
    return Draw(
        keys=batch.target_streams(_NEGATIVES),
        step_key=batch.step_key,
        rows=batch.rows_of_targets(),
        seen_items=None if seen is None else seen.items,
        seen_offsets=None if seen is None else seen.offsets,
    )


@torch.no_grad()
def scored_by(model: Backbone, batch: Batch) -> Scored:
    """What a frozen model, on the batch's device, says of a batch's targets."""
    # A batch of prefixes has a target a row: any model reads it, as far back as it can.
    prefixes = batch.target_events is None
    states = model.user_states(batch.latest(model.max_length)) if prefixes else model.states(batch)
    table = model.scorer()
    assert isinstance(table, OutputTable)  # see ``check_compared``
    return Scored(table.read(states.float()), table)


def check_compared(name: str, model: object, task: Task, max_length: int) -> None:
    """Raise UserError unless a model that a loss compares with reads the batches of a task (see ``scored_by``)."""
    where, kind = f"loss.{name}", type(model).__name__
    if not isinstance(model, Backbone) or not isinstance(model.scorer(), OutputTable):
        what = f"{kind} has no states that are scored against item vectors"
        raise UserError(what, where=where, remedy="Name a run of another model, such as model=sasrec")
    one_target = isinstance(task, NextItem) and task.one_target
    if not one_target and (type(model.task) is not type(task) or model.max_length < max_length):
        what = f"{kind} with max_length={model.max_length} does not read the examples that this model is trained on"
        remedy = f"Name a run of this model, with max_length={max_length} or more"
        raise UserError(what, where=where, remedy=remedy)


def _check_states(states: Tensor, n: int, source: str, one_of: str) -> None:
    """Raise UserError unless the states that a method returned are n rows of floats: [n, d], or [n, ...].

    The method is ``source``; each row is ``one_of``: target or user.
    """
    shape = list(getattr(states, "shape", ()))
    if len(shape) < 2 or shape[0] != n or not states.is_floating_point():
        remedy = f"Return one state of width d for each {one_of} of the batch, in its order"
        raise UserError(f"{source} gave {_said(states)}, not floats of shape [{n}, d]", where="model", remedy=remedy)


def _checked_losses(found: object, n: int, weights: Tensor | None, source: str) -> tuple[Tensor, Tensor]:
    """What a loss of class ``source`` returned: totals [W] and losses [n], for weights [W, n] (None: one row).

    Raises UserError for anything else.
    """
    remedy = "Return (totals [W], losses [N]): plain_means(losses, weights) makes both from N losses "
    remedy += '(reduction="none")'
    if not isinstance(found, tuple) or len(found) != 2:
        raise UserError(f"{source} returned {_said(found)}, not two tensors", where="loss", remedy=remedy)
    n_rows = 1 if weights is None else len(weights)
    for name, one, shape in zip(("totals", "losses"), found, ([n_rows], [n]), strict=True):
        if list(getattr(one, "shape", ("no tensor",))) != shape:
            raise UserError(f"{source} gave {name} of {_said(one)}, not of shape {shape}", where="loss", remedy=remedy)
    return found


def _said(found: object) -> str:
    if not isinstance(found, Tensor):
        return type(found).__name__
    return f"{str(found.dtype).removeprefix('torch.')} of shape {list(found.shape)}"
