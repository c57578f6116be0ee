"""What BIGRec and ranking by likelihood share: a language model that is asked for the next title."""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from recsys_lt.backbones.backbone import DataFacts
from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.llm.choice import LLM
from recsys_lt.llm.prompt import Prompt
from recsys_lt.llm.prompted import PromptedModel
from recsys_lt.recommenders.dense import Ranked, rank_of_scores


class TitleModel(PromptedModel):
    """The prompt lists the titles of a history; the answer is the title of what came next.

    Parameters
    ----------
    facts, llm, prompt, max_length, title_tokens, attributes, train
        See ``PromptedModel``.

    Raises
    ------
    UserError
        As ``PromptedModel``, and for a prompt longer than the language model reads.
    """

    def __init__(
        self,
        facts: DataFacts,
        *,
        llm: LLM,
        prompt: Prompt,
        max_length: int,
        title_tokens: int,
        attributes: bool,
        train: bool,
    ) -> None:
        super().__init__(
            facts,
            llm=llm,
            prompt=prompt,
            max_length=max_length,
            title_tokens=title_tokens,
            attributes=attributes,
            train=train,
        )
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

    def ranked(self, batch: Batch, masked: SeenSets | None, k: int) -> Ranked:
        """See ``AnsweringModel.ranked``."""
        return rank_of_scores(self.scores(batch), batch.targets, masked, k)

    @abstractmethod
    def scores(self, batch: Batch) -> Tensor:
        """What the catalogue is ordered by for each user, [B, I]; higher is better."""
