"""What BIGRec and ranking by likelihood share: a language model that is asked for the next title."""

from collections.abc import Iterable

import torch
from torch import Tensor

from recsys_lt.backbones.backbone import DataFacts
from recsys_lt.backbones.dropout import row_streams
from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.data.rows import Prefixes
from recsys_lt.errors import UserError
from recsys_lt.llm.answer_losses import mean_answer_losses
from recsys_lt.llm.language_model import LLM
from recsys_lt.llm.prompt import Prompt
from recsys_lt.llm.titles import titles_of, tokens_of_titles
from recsys_lt.recommenders.answering_model import AnsweringModel
from recsys_lt.recommenders.dense import Ranked, rank_of_scores


class TitleModel(AnsweringModel):
    """The prompt lists the titles of a history; the answer is the title of what came next.

    Parameters
    ----------
    facts
        Sizes and titles of the data.
    llm
        The language model.
    prompt
        The prompt's fixed texts.
    max_length
        Latest events told.
    title_tokens
        Tokens of a title told, its first ones.
    train
        False takes the language model as it is.

    Raises
    ------
    UserError
        For a number that is not positive, data without titles, or a prompt longer than the language model reads.
    """

    def __init__(
        self, facts: DataFacts, *, llm: LLM, prompt: Prompt, max_length: int, title_tokens: int, train: bool
    ) -> None:
        super().__init__()
        if max_length < 1 or title_tokens < 1:
            raise UserError(
                f"max_length {max_length}, title_tokens {title_tokens} leave nothing to read",
                where="model",
                remedy="Give positive numbers, such as 10 and 32",
            )
        texts = titles_of(facts, prompt.noun)
        self.language = llm.load()
        self.max_length, self.trainable = max_length, train
        self.row_plan = Prefixes(max_length)
        self.opening: Tensor
        self.register_buffer("opening", self.language.opening(prompt.opening), persistent=False)
        self.titles = tokens_of_titles(self.language, texts, title_tokens)
        (self._next, self._closing) = self.language.ids(["\n-", prompt.closing])
        longest = sorted((len(title) for title in self.titles), reverse=True)
        self.language.check_length(
            len(self.opening) + max_length * (longest[0] + len(self._next)) + len(self._closing)
            + longest[0] + 1,
            f"model.max_length={max_length}",
        )  # fmt: skip

    def answer_losses(self, batch: Batch) -> Tensor:
        """See ``AnsweringModel.answer_losses``."""
        answers = [self.titles[item] for item in batch.targets.tolist()]
        prompts = self._prompts(batch.items.split(batch.lengths))
        return mean_answer_losses(self.language, self.opening, prompts, answers, row_streams(batch), batch.step_key)

    def _prompts(self, histories: Iterable[Tensor]) -> list[list[int]]:
        """What follows the opening: the titles, oldest first, and the closing the answer comes after."""
        prompts = []
        for events in histories:
            row: list[int] = []
            for item in events[-self.max_length :].tolist():
                row += self._next + self.titles[item]
            prompts.append(row + self._closing)
        return prompts

    def ranked(self, batch: Batch, masked: SeenSets | None, k: int) -> Ranked:
        """See ``AnsweringModel.ranked``."""
        return rank_of_scores(self.scores(batch), batch.targets, masked, k)

    def scores(self, batch: Batch) -> Tensor:
        """What the catalogue is ordered by for each user, [B, I]; higher is better."""
        raise NotImplementedError

    def _tokens(self, rows: Iterable[Iterable[int]]) -> Tensor:
        return torch.tensor([token for row in rows for token in row], device=self.opening.device)
