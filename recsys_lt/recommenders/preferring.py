"""Recommenders that answer item by item, and are trained by their own objective or by a preference loss."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.errors import UserError
from recsys_lt.losses.answering import Answering
from recsys_lt.losses.loss import Draw, Loss, Own
from recsys_lt.recommenders.recommender import Recommender
from recsys_lt.recommenders.sequential import check_compared, draw_of, scored_by


class PreferringRecommender(Recommender):
    """A recommender whose answers have log-probabilities: titles of a language model, codes of a generative one.

    A loss of answers takes the place of its own objective (``preference_losses``).
    """

    takes_preferences = True
    loss: Loss = Own()

    @abstractmethod
    def answering(self, batch: Batch, loss: Loss | None = None) -> Answering:
        """Log-probabilities of answers for a batch's rows, as a loss wants them; None for the model's own loss."""

    @abstractmethod
    def check_reference(self, model: object) -> None:
        """Raise UserError unless a model gives the same answers log-probabilities for the same rows."""

    def take_loss(self, loss: Loss) -> None:
        if loss.needs_scores:
            what = "hard negatives need a model that scores all items at once, and this model does not score so"
            raise UserError(what, where="loss.negatives=hard", remedy="Use uniform or popular")
        for name, model in loss.compared.items():
            if name == "reference":
                self.check_reference(model)
            else:
                check_compared(name, model, self.task, self.max_length)
        if loss.of_answers and not self.trainable:
            what, remedy = "the model is taken as it is, and the loss trains nothing", "Add model.train=true"
            raise UserError(what, where="model.train=false", remedy=remedy)
        self.loss, self.needs_seen = loss, self.needs_seen or loss.needs_seen

    def preference_losses(self, batch: Batch, item_weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """``batch_losses`` of a loss of answers."""
        weights = self.target_weights(batch, item_weights)
        with self.autocast(self.precision.backbone):
            found = self.loss.by_answers(self.answering(batch), batch.targets, weights, self._draw(batch))
        return *found, batch.targets

    def health(self, batch: Batch) -> Mapping[str, Tensor]:
        if not self.loss.of_answers:
            return {}
        with self.autocast(self.precision.backbone):
            return self.loss.answer_health(self.answering(batch), batch.targets, self._draw(batch))

    def _draw(self, batch: Batch) -> Draw:
        frozen: dict[str, Answering] = {}
        for name, model in self.loss.compared.items():
            there = model.to(self.device)
            answers = isinstance(there, PreferringRecommender)
            frozen[name] = there.answering(batch, self.loss) if answers else scored_by(there, batch)
        return replace(draw_of(batch), frozen=frozen)
