"""Ranking by the likelihood of titles: what an untuned language model knows of a catalogue."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.llm.title_model import TitleModel

_LOGITS = 1 << 24  # held at a time: 64 MB


class TitleLikelihood(TitleModel):
    """Items in the order of the mean log-likelihood of their titles' tokens after the prompt.

    The mean and not the sum, which would prefer short titles. A user costs a forward pass over all titles of the
    catalogue; the prompt is read once.

    Parameters
    ----------
    facts, llm, prompt, max_length, title_tokens, train
        See ``TitleModel``.
    """

    def scores(self, batch: Batch) -> Tensor:
        """See ``TitleModel.scores``."""
        return torch.stack([self._of_user(prompt) for prompt in self._prompts(batch)])

    def _of_user(self, prompt: list[int]) -> Tensor:
        language, titles = self.language, self.titles
        read = language.vectors(torch.cat([self.opening, self._tokens([prompt])]))
        # The last token of the prompt tells the first of every title: it is read once, as a row of its own.
        first = language.hidden(read[:-1], read[-1:], [1])
        begun = F.linear(first, language.vocabulary).float().log_softmax(1)[0]
        sums = begun[self._tokens([title[:1] for title in titles])]
        inner = [title[:-1] for title in titles]
        lengths = [len(row) for row in inner]
        told, rest = self._tokens(inner), self._tokens([title[1:] for title in titles])
        longer = [n for n in lengths if n]
        of_item = torch.repeat_interleave(torch.arange(len(titles)), torch.tensor(lengths)).to(sums.device)
        if longer:
            hidden = language.hidden(read, language.vectors(told), longer)
            step = max(1, _LOGITS // len(language.vocabulary))
            for start in range(0, len(told), step):
                part = slice(start, start + step)
                logits = F.linear(hidden[part], language.vocabulary).float()
                sums = sums.index_add(0, of_item[part], -F.cross_entropy(logits, rest[part], reduction="none"))
        return sums / torch.tensor([len(title) for title in titles], device=sums.device)

    def _tokens(self, rows: Iterable[Iterable[int]]) -> Tensor:
        return torch.tensor([token for row in rows for token in row], device=self.opening.device)
