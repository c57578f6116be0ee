"""What BIGRec and ranking by likelihood share: a language model that is asked for the next title."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.data.facts import DataFacts
from recsys_lt.llm.prompted import PromptedModel, Told
from recsys_lt.recommenders.dense import Ranked, rank_of_scores


class TitleModel(PromptedModel):
    """The prompt lists the titles of a history; the answer is the title of what came next.

    Parameters
    ----------
    facts, **told
        See ``PromptedModel``.

    Raises
    ------
    UserError
        As ``PromptedModel``, and for a prompt longer than the language model reads.
    """

    def __init__(self, facts: DataFacts, **told: Unpack[Told]) -> None:
        super().__init__(facts, **told)
        max_length, prompt = told["max_length"], told["prompt"]
        *self._marks, self._closing = self.language.ids([*prompt.events(max_length), prompt.closing])
        self.language.check_length(
            len(self.opening) + max_length * max(map(len, self.told)) + sum(map(len, self._marks)) + len(self._closing)
            + max(map(len, self.titles)) + 1,
            f"model.max_length={max_length}",
        )  # fmt: skip

    def asked_and_answered(self, batch: Batch) -> tuple[Sequence[list[int]], Sequence[list[int]]]:
        """See ``PromptedModel.asked_and_answered``."""
        return self._prompts(batch), [self.titles[item] for item in batch.targets.tolist()]

    def _prompts(self, batch: Batch) -> list[list[int]]:
        """What follows the opening: the titles, oldest first, and the closing the answer comes after."""
        prompts = []
        for events in batch.items.split(batch.lengths):
            row: list[int] = []
            for mark, item in zip(self._marks, events[-self.max_length :].tolist(), strict=False):
                row += mark + self.told[item]
            prompts.append(row + self._closing)
        return prompts

    def inseparable(self) -> Tensor:
        """Items whose title, as far as it is read, another item has too, [I] bool."""
        titles = [tuple(title) for title in self.titles]
        items_of = Counter(titles)
        return torch.tensor([items_of[title] > 1 for title in titles])

    def ranked(self, batch: Batch, masked: SeenSets | None, k: int) -> Ranked:
        """See ``AnsweringModel.ranked``."""
        return rank_of_scores(self.scores(batch), batch.targets, masked, k)

    @abstractmethod
    def scores(self, batch: Batch) -> Tensor:
        """What the catalogue is ordered by for each user, [B, I]; higher is better."""
