"""Ranking of the catalogue by the likelihood of its titles after a prompt."""

import torch
from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.llm.prompt import TitleModel


class TitleLikelihood(TitleModel):
    """Items in the order of the mean log-likelihood of their titles' tokens after the prompt.

    The mean and not the sum, which would prefer short titles. A user costs a forward pass over all titles of the
    catalogue, or of the candidates; the opening of all prompts is read once a ranking, and a user's own part once.
    """

    def scores(self, batch: Batch) -> Tensor:
        return torch.stack([self.likelihoods(prompt, self.titles) for prompt in self._prompts(batch)])

    def item_scores(self, batch: Batch, items: Tensor) -> Tensor:
        """See ``Recommender.item_scores``: of these titles alone, as branches after the user's prompt."""
        return self.title_scores(self._prompts(batch), items)
