"""Ranking of the catalogue by the likelihood of its titles after a prompt."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.llm.prompt import TitleModel

_LOGITS = 1 << 24  # held at a time: 64 MB


class TitleLikelihood(TitleModel):
    """Items in the order of the mean log-likelihood of their titles' tokens after the prompt.

    The mean and not the sum, which would prefer short titles. A user costs a forward pass over all titles of the
    catalogue; the opening of all prompts is read once a ranking, and a user's own part once.
    """

    def begin_ranking(self) -> None:
        super().begin_ranking()
        self._vocabulary = self.language.vocabulary.float()  # of a model that is held in fewer bits, a copy

    def scores(self, batch: Batch) -> Tensor:
        return torch.stack([self._of_user(prompt) for prompt in self._prompts(batch)])

    def _of_user(self, prompt: list[int]) -> Tensor:
        language, titles, vocabulary = self.language, self.titles, self._vocabulary
        read = language.read(language.vectors(self._tokens([prompt])), after=self.read_opening)
        # The prompt's last token predicts the first of every title.
        firsts = self._tokens([title[:1] for title in titles])
        sums = _logits(read.last, vocabulary).log_softmax(1)[0, firsts]
        inner = [title[:-1] for title in titles]
        lengths = [len(row) for row in inner]
        longer = [n for n in lengths if n]
        if longer:
            hidden = language.hidden(read, language.vectors(self._tokens(inner)), longer)
            found = _log_likelihoods(hidden, vocabulary, self._tokens([title[1:] for title in titles]))
            of_item = torch.repeat_interleave(torch.arange(len(titles)), torch.tensor(lengths)).to(sums.device)
            sums = sums.index_add(0, of_item, found)
        return sums / torch.tensor([len(title) for title in titles], device=sums.device)

    def _tokens(self, rows: Iterable[Iterable[int]]) -> Tensor:
        return torch.tensor([token for row in rows for token in row], device=self.opening.device)


def _log_likelihoods(hidden: Tensor, vocabulary: Tensor, tokens: Tensor) -> Tensor:
    """Log-likelihood of each token after its hidden state, [T, H], [V, H], [T] -> [T] float32."""
    step = max(1, _LOGITS // len(vocabulary))
    parts = [
        -F.cross_entropy(_logits(states, vocabulary), following, reduction="none")
        for states, following in zip(hidden.split(step), tokens.split(step), strict=True)
    ]
    return torch.cat(parts)


def _logits(hidden: Tensor, vocabulary: Tensor) -> Tensor:
    """In float32, whatever the model's own: those of bfloat16 have eight bits, and titles differ in less."""
    with torch.autocast(hidden.device.type, enabled=False):
        return F.linear(hidden.float(), vocabulary.float())
