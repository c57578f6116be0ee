"""The recommender of a language model that answers in words."""

from torch import Tensor

from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.errors import UserError
from recsys_lt.losses.blocks import plain_means
from recsys_lt.optim.rule import UpdateRule
from recsys_lt.recommenders.answering_model import AnsweringModel
from recsys_lt.recommenders.recommender import Recommender, Terms


class AnsweringRecommender(Recommender):
    """A model with an objective of its own, and an update rule.

    Parameters
    ----------
    model
        Prompts to answers.
    n_items
        Size of the catalogue, I.
    rule
        Totals to gradients.
    terms
        On what terms it is trained and ranks.
    """

    def __init__(self, model: AnsweringModel, n_items: int, rule: UpdateRule, terms: Terms) -> None:
        super().__init__(
            n_items,
            model.task,
            model.max_length,
            rule,
            terms,
            trainable=model.trainable,
            needs_seen=model.needs_seen,
            n_candidates=model.n_candidates,
        )
        if model.trainable and not any(p.requires_grad for p in model.parameters()):
            raise UserError(
                "there is nothing to train",
                where="llm.lora=null",
                remedy="Leave llm.lora as it is, or take the model as it is: model.train=false",
            )
        self.model = model

    def batch_losses(self, batch: Batch, item_weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Recommender.batch_losses``."""
        with self._products(self.precision.backbone):
            losses = self.model.answer_losses(batch)
        weights = None if item_weights is None else item_weights.to(batch.targets.device)[:, batch.targets]
        totals, losses = plain_means(losses.float(), weights)
        return totals, losses, batch.targets

    def rank(self, batch: Batch, seen: SeenSets | None, k: int) -> tuple[Tensor, Tensor]:
        """See ``Recommender.rank``."""
        ranks, items, _ = self.model.ranked(batch, self._masked(batch, seen), k)
        return ranks, items

    def retrieved(self, batch: Batch, seen: SeenSets | None) -> Tensor | None:
        """See ``Recommender.retrieved``."""
        return self.model.retrieved(batch, self._masked(batch, seen))

    def inseparable(self) -> Tensor | None:
        """See ``Recommender.inseparable``."""
        return self.model.inseparable()

    def listed(self, batch: Batch, seen: SeenSets | None, k: int) -> tuple[Tensor, Tensor]:
        """See ``Recommender.listed``."""
        _, items, scores = self.model.ranked(batch, self._masked(batch, seen), k)
        return items, scores
