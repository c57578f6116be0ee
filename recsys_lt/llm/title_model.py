"""Language models that answer with the title of the next item, and rank the catalogue by scores of its titles."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.llm.prompted import PromptedModel, PromptSettings
from recsys_lt.recommenders.full_ranking import Ranking, ScoreMatrix, rank_by_scores


class TitleModel(PromptedModel):
    """The prompt lists the titles of a history; the answer is the title of what came next.

    Parameters
    ----------
    facts, **settings
        See ``PromptedModel``.

    Raises
    ------
    UserError
        As ``PromptedModel``, and for a prompt longer than the language model reads.
    """

    def __init__(self, facts: DataFacts, **settings: Unpack[PromptSettings]) -> None:
        super().__init__(facts, **settings)
        max_length, prompt = settings["max_length"], settings["prompt"]
        occurrences = Counter(map(tuple, self.titles))
        self._shared = torch.tensor([occurrences[tuple(title)] > 1 for title in self.titles])
        *self._marks, self._closing = self.language.ids([*prompt.events(max_length), prompt.closing])
        self.language.check_length(
            len(self.opening) + max_length * max(map(len, self.item_texts)) + sum(map(len, self._marks))
            + len(self._closing) + max(map(len, self.titles)) + 1,
            f"model.max_length={max_length}",
        )  # fmt: skip

    def prompts_and_answers(self, batch: Batch) -> tuple[Sequence[list[int]], Sequence[list[int]]]:
        return self._prompts(batch), [self.titles[item] for item in batch.targets.tolist()]

    def _prompts(self, batch: Batch) -> list[list[int]]:
        """Prompts after the opening: the titles, oldest first, and the closing that precedes the answer."""
        prompts = []
        for events in batch.items.split(batch.lengths):
            row: list[int] = []
            for mark, item in zip(self._marks, events[-self.n_events :].tolist(), strict=False):
                row += mark + self.item_texts[item]
            prompts.append(row + self._closing)
        return prompts

    def facts(self) -> Mapping[str, Any]:
        """See ``Recommender.facts``: items whose title, as far as it is read, another item has too are not distinct."""
        return {**super().facts(), "indistinct": self._shared}

    def begin_ranking(self) -> None:
        """See ``Recommender.begin_ranking``: all prompts go on from the opening, which is read here."""
        self.read_opening = self.language.read(self.language.vectors(self.opening)) if len(self.opening) else None

    def rank(self, batch: Batch, k: int) -> Ranking:
        return rank_by_scores(self.scores(batch), ScoreMatrix(self.n_items), batch.targets, self.masked(batch), k)

    @abstractmethod
    def scores(self, batch: Batch) -> Tensor:
        """Scores of the catalogue for each user, [B, I]; higher is better."""
