"""Titles as answers: what a language model gives the titles of chosen and rejected items."""

from collections.abc import Sequence

import torch
from torch import Tensor

from recsys_lt.data.streams import key_of, keys_of
from recsys_lt.llm.language_model import LanguageModel
from recsys_lt.losses.preference import Answers

_BRANCHES = key_of(23)


class TitleAnswers:
    """Log-probabilities of titles after the prompts of a batch. An ``Answering``.

    Parameters
    ----------
    language, titles
        Who reads, and the tokens of the items' titles.
    prompts, streams
        The tokens of each row's prompt, and the row's random stream, [B] int64.
    mean_tokens
        Whether they are means over a title's tokens, its end included; else sums.
    """

    def __init__(
        self,
        language: LanguageModel,
        titles: Sequence[list[int]],
        prompts: Sequence[list[int]],
        streams: Tensor,
        *,
        mean_tokens: bool,
    ) -> None:
        self._language, self._titles, self._prompts, self._streams = language, titles, prompts, streams
        self._mean = mean_tokens

    @property
    def n_items(self) -> int:
        return len(self._titles)

    def answers(self, targets: Tensor, ids: Tensor, comparable: bool = False) -> Answers:
        """Always log-probabilities, which are comparable between users. A row's prompt is read once."""
        items = torch.cat([targets.unsqueeze(1), ids], 1)
        branches = torch.arange(items.shape[1], device=items.device)
        found = []
        for prompt, own, stream in zip(self._prompts, items.tolist(), self._streams.tolist(), strict=True):
            keys = keys_of(key_of(_BRANCHES, stream), branches)
            titles = [self._titles[item] for item in own]
            sums, lengths = self._language.answers_after(prompt, titles, keys, stream)
            found.append(sums / lengths if self._mean else sums)
        every = torch.stack(found)
        return Answers(every[:, 0], every[:, 1:])
